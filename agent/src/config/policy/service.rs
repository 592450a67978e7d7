//! Names of ports that everybody uses alike, after IANA's register of services.
//!
//! A rule may use them without any endpoint giving them a number.

/// Lists names with their numbers.
const SERVICES: &[(&str, u16)] = &[
    ("amqp", 5672),
    ("amqps", 5671),
    ("bgp", 179),
    ("bootpc", 68),
    ("bootps", 67),
    ("dhcpv6-client", 546),
    ("dhcpv6-server", 547),
    ("dns", 53),
    ("domain", 53),
    ("domain-s", 853),
    ("ftp", 21),
    ("git", 9418),
    ("http", 80),
    ("http-alt", 8080),
    ("https", 443),
    ("https-alt", 8443),
    ("imap", 143),
    ("imaps", 993),
    ("ipp", 631),
    ("isakmp", 500),
    ("kerberos", 88),
    ("ldap", 389),
    ("ldaps", 636),
    ("mdns", 5353),
    ("mqtt", 1883),
    ("mysql", 3306),
    ("nfs", 2049),
    ("ntp", 123),
    ("openvpn", 1194),
    ("pop3", 110),
    ("pop3s", 995),
    ("postgresql", 5432),
    ("radius", 1812),
    ("rdp", 3389),
    ("redis", 6379),
    ("rsync", 873),
    ("sip", 5060),
    ("sips", 5061),
    ("smtp", 25),
    ("snmp", 161),
    ("snmptrap", 162),
    ("ssh", 22),
    ("stun", 3478),
    ("submission", 587),
    ("submissions", 465),
    ("sunrpc", 111),
    ("syslog", 514),
    ("syslog-tls", 6514),
    ("telnet", 23),
    ("tftp", 69),
];

/// Returns the port that everybody calls so.
pub fn number(name: &str) -> Option<u16> {
    let service = SERVICES.iter().find(|(known, _)| *known == name);
    service.map(|(_, number)| *number)
}

/// Lists the names.
pub(in crate::config) fn names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::port_name;

    #[test]
    fn services_are_sorted_and_have_names_that_ports_may_have() {
        assert!(SERVICES.is_sorted());
        assert_eq!(names().find(|name| !port_name::is_valid(name)), None);
    }

    #[test]
    fn a_service_is_found_by_its_name() {
        assert_eq!(number("https"), Some(443));
        assert_eq!(number("nobody"), None);
    }
}
