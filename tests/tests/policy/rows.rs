//! The rows of the language: a policy of the first node, and what becomes of attempts.
//!
//! On edge-1 are web (front), api (back), db (which calls tcp/5432 `store`), bare, which has no
//! labels, and lax, which is audited; on edge-2 are cache (back) and spare, which has none; world and other are two addresses
//! outside. The other node has no policy.

use super::language::Verdict::{self, Audited, Denied, Listed, ListedTold, Passes, Told};

/// Is a row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What is added to the file.
    pub(crate) policy: &'static str,
    /// `from > to, means`, each several if need be.
    pub(crate) tries: &'static [(&'static str, Verdict)],
}

pub(crate) const ROWS: &[Row] = &[
    // The kernel tells nobody more than five times in a row (`net.ipv4.route.error_burst`), and
    // nobody to whom it has just sent a redirect: so this row is the first.
    Row {
        name: "whoever is kept out is told",
        policy: r#"[[policy.rule]]
endpoints = "db"
reject = true
ingress = [{ from = "cache", ports = "tcp/80" }]
[[policy.rule]]
endpoints = "api"
reject = true
egress = [{ to = "db" }]
egress_deny = [{ to = "cache" }]"#,
        tries: &[
            ("cache > db, tcp/80", Passes),
            ("web bare cache > db, tcp/443 udp/53", Told),
            ("world > db, tcp/443 udp/53", Told),
            ("web > db, icmp", Told),
            ("api > web edge-2, tcp/80", Told),
            ("api > world, udp/53", Told),
            ("api > cache, tcp/80", ListedTold),
            // It would be the node that is told.
            ("api > host, tcp/80 udp/53", Denied),
        ],
    },
    Row {
        name: "without rules everybody reaches everybody",
        policy: "",
        tries: &[
            (
                "web > db host cache world edge-2, tcp/80 udp/53 icmp large/53",
                Passes,
            ),
            (
                "world edge-2 cache host > db, tcp/80 udp/53 icmp large/53",
                Passes,
            ),
        ],
    },
    Row {
        name: "equals",
        policy: r#"[[policy.rule]]
endpoints = { app = "db" }
ingress = [{ from = { app = "web" } }]"#,
        tries: &[
            ("web > db, tcp/80 udp/53 icmp", Passes),
            (
                "api bare cache spare world edge-2 > db, tcp/80 udp/53 icmp",
                Denied,
            ),
            ("db > web api, tcp/80", Passes),
            ("cache > api bare, tcp/80", Passes),
        ],
    },
    Row {
        name: "in",
        policy: r#"[[policy.rule]]
endpoints = { app = ["db", "none"] }
ingress = [{ from = { app = ["web", "cache"] } }]"#,
        tries: &[
            ("web cache > db, tcp/80 icmp", Passes),
            ("api spare > db, tcp/80 icmp", Denied),
        ],
    },
    Row {
        name: "exists",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = { tier = true } }]"#,
        tries: &[
            ("web api cache > db, tcp/80", Passes),
            ("bare spare world > db, tcp/80", Denied),
        ],
    },
    Row {
        name: "absent",
        policy: r#"[[policy.rule]]
endpoints = { app = "db", tier = false }
ingress = [{ from = { tier = false } }]"#,
        tries: &[
            ("bare spare > db, tcp/80", Passes),
            ("web api cache world edge-2 > db, tcp/80", Denied),
        ],
    },
    Row {
        name: "keys are and-ed",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = { app = true, tier = "back" } }]"#,
        tries: &[
            ("api cache > db, udp/53", Passes),
            ("web bare > db, udp/53", Denied),
        ],
    },
    Row {
        name: "not",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = { tier = true, not = { app = "cache" } } }]"#,
        tries: &[
            ("web api > db, tcp/80", Passes),
            ("cache bare > db, tcp/80", Denied),
        ],
    },
    Row {
        name: "an endpoint by its name",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = ["bare", "cache"] }]
[[policy.rule]]
endpoints = "web"
egress = [{ to = "spare" }]"#,
        tries: &[
            ("bare cache > db, tcp/80", Passes),
            ("api spare world > db, tcp/80", Denied),
            ("web > spare, tcp/80 udp/53 icmp", Passes),
            (
                "web > api cache host world edge-2, tcp/80 udp/53 icmp",
                Denied,
            ),
        ],
    },
    Row {
        name: "a node by its name",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "edge-2" }]
[[policy.rule]]
endpoints = "web"
egress = [{ to = "edge-2" }]
[[policy.rule]]
endpoints = "api"
egress = [{ to = "edge-1" }]"#,
        tries: &[
            ("edge-2 host > db, tcp/80 udp/53 icmp", Passes),
            ("cache web > db, tcp/80", Denied),
            ("web > edge-2, tcp/80 udp/53 icmp", Passes),
            ("web > host edge-1 cache world, tcp/80", Denied),
            ("api > host edge-1, tcp/80 udp/53 icmp", Passes),
            ("api > edge-2 world, tcp/80", Denied),
        ],
    },
    Row {
        name: "host",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "host" }]
egress = [{ to = "host" }]"#,
        tries: &[
            ("host > db, tcp/80 udp/53 icmp", Passes),
            ("db > host edge-1, tcp/80 udp/53 icmp", Passes),
            ("web edge-2 world > db, tcp/80", Denied),
            ("db > web edge-2 world, tcp/80", Denied),
        ],
    },
    Row {
        name: "world",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "world" }]
egress = [{ to = "world" }]"#,
        tries: &[
            ("world > db, tcp/80 udp/53 icmp", Passes),
            ("db > world other, tcp/80 udp/53 icmp", Passes),
            ("web cache edge-2 > db, tcp/80", Denied),
            ("db > web cache host edge-2, tcp/80", Denied),
        ],
    },
    Row {
        name: "world-ipv4",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "world-ipv4" }]
egress = [{ to = "world-ipv4" }]"#,
        tries: &[
            ("world > db, v4:tcp/80 v4:icmp", Passes),
            ("world > db, v6:tcp/80 v6:icmp", Denied),
            ("db > world, v4:tcp/80 v4:udp/53", Passes),
            ("db > world, v6:tcp/80 v6:udp/53", Denied),
        ],
    },
    Row {
        name: "world-ipv6",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "world-ipv6" }]
egress = [{ to = "world-ipv6" }]"#,
        tries: &[
            ("world > db, v6:tcp/80", Passes),
            ("world > db, v4:tcp/80", Denied),
            ("db > world, v6:tcp/80", Passes),
            ("db > world, v4:tcp/80", Denied),
        ],
    },
    Row {
        name: "remote-node",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "remote-node" }]
egress = [{ to = "remote-node" }]"#,
        tries: &[
            ("edge-2 host > db, tcp/80 udp/53 icmp", Passes),
            ("db > edge-2, tcp/80 udp/53 icmp", Passes),
            ("web cache world > db, tcp/80", Denied),
            ("db > web cache host edge-1 world, tcp/80", Denied),
        ],
    },
    Row {
        name: "cluster",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "cluster" }]
egress = [{ to = "cluster" }]"#,
        tries: &[
            ("web bare cache spare host edge-2 > db, tcp/80", Passes),
            ("db > web bare cache spare host edge-2, tcp/80", Passes),
            ("world > db, tcp/80", Denied),
            ("db > world, tcp/80", Denied),
        ],
    },
    Row {
        name: "all",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "all" }]
egress = [{ to = "all" }]"#,
        tries: &[
            ("web cache host edge-2 world > db, tcp/80", Passes),
            ("db > web cache host edge-2 world, tcp/80", Passes),
        ],
    },
    Row {
        name: "none",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "none" }]
egress = [{ to = "none" }]"#,
        tries: &[
            ("web cache edge-2 world > db, tcp/80", Denied),
            ("db > web cache host edge-2 world, tcp/80", Denied),
            ("host > db, tcp/80", Passes),
        ],
    },
    Row {
        name: "a prefix",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = ["198.51.100.0/24", "2001:db8:51::/64"] }]
egress = [{ to = ["198.51.0.0/16", "2001:db8:51::/48"] }]"#,
        tries: &[
            ("world > db, tcp/80 udp/53 icmp", Passes),
            ("db > world other, tcp/80 udp/53 icmp", Passes),
            ("web cache edge-2 > db, tcp/80", Denied),
            ("db > host cache edge-2, tcp/80", Denied),
        ],
    },
    Row {
        name: "a prefix of everything means the world and nobody of the file",
        policy: r#"[[policy.rule]]
endpoints = "db"
egress = [{ to = ["0.0.0.0/0", "::/0"] }]"#,
        tries: &[
            ("db > world, tcp/80", Passes),
            ("db > web cache host edge-2, tcp/80", Denied),
        ],
    },
    Row {
        name: "a prefix with exceptions",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = [{ cidr = "198.51.0.0/16", except = "198.51.100.2" }, { cidr = "2001:db8::/32", except = ["2001:db8:51::2/128"] }] }]
egress = [{ to = [{ cidr = "198.51.0.0/16", except = ["198.51.100.3/32"] }, { cidr = "2001:db8:51::/48", except = "2001:db8:51::3" }] }]"#,
        tries: &[
            ("db > world, tcp/80 udp/53 icmp", Passes),
            ("db > other, tcp/80 udp/53 icmp", Denied),
            ("other > db, udp/53", Passes),
            ("world > db, tcp/80 icmp", Denied),
        ],
    },
    Row {
        name: "a single address",
        policy: r#"[[policy.rule]]
endpoints = "db"
egress = [{ to = ["198.51.100.3", "2001:db8:51::3"], ports = "tcp/80" }]"#,
        tries: &[
            ("db > other, tcp/80", Passes),
            ("db > other, tcp/443 udp/53 icmp", Denied),
            ("db > world, tcp/80", Denied),
        ],
    },
    Row {
        name: "ports by number",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "all", ports = ["tcp/80", "udp/53"] }]"#,
        tries: &[
            ("web cache world edge-2 > db, tcp/80 udp/53", Passes),
            ("web cache world edge-2 > db, tcp/443 udp/123 icmp", Denied),
        ],
    },
    Row {
        name: "any is every protocol that has ports",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ ports = ["any/53", "any/80"] }]"#,
        tries: &[
            ("web cache > db, tcp/80 udp/53 sctp/53 sctp/80", Passes),
            ("web cache > db, tcp/443 udp/123 sctp/123", Denied),
        ],
    },
    Row {
        name: "ranges of ports",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ ports = ["tcp/8000-8010", "udp/100-200"] }]
[[policy.rule]]
endpoints = "web"
egress = [{ ports = ["tcp/8005-65535"] }]"#,
        tries: &[
            ("api cache world > db, tcp/8000 tcp/8005 udp/123", Passes),
            ("api cache world > db, tcp/8011 udp/53 tcp/80", Denied),
            ("web > db, tcp/8005", Passes),
            ("web > db, tcp/8000 tcp/8011", Denied),
            ("web > cache world, tcp/8005 tcp/8011", Passes),
            ("web > cache world, tcp/8000 udp/123 icmp", Denied),
        ],
    },
    Row {
        name: "ports by name",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ ports = ["tcp/store", "tcp/http", "udp/dns"] }]
[[policy.rule]]
endpoints = "web"
egress = [{ ports = ["tcp/store", "tcp/https"] }]"#,
        tries: &[
            ("api cache > db, tcp/5432 tcp/80 udp/53", Passes),
            ("api cache > db, tcp/443 udp/123", Denied),
            ("web > db, tcp/5432", Passes),
            ("web > cache world, tcp/443", Passes),
            ("web > cache world, tcp/5432 tcp/80", Denied),
        ],
    },
    Row {
        name: "sctp",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ ports = ["sctp/9", "tcp/80"] }]
[[policy.rule]]
endpoints = "web"
egress = [{ ports = "sctp/10" }]"#,
        tries: &[
            ("api cache world > db, sctp/9 tcp/80", Passes),
            ("api cache world > db, sctp/10 sctp/80", Denied),
            ("web > api cache, sctp/10", Passes),
            ("web > api cache, sctp/9 tcp/80", Denied),
        ],
    },
    Row {
        name: "echo requests by type",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ ports = ["icmp/echo-request"] }]
egress = [{ ports = "icmpv6/echo-request" }]
[[policy.rule]]
endpoints = "web"
ingress = [{ ports = "icmp/echo-reply" }]"#,
        tries: &[
            ("api cache world > db, v4:icmp", Passes),
            ("api cache world > db, v6:icmp", Denied),
            ("api cache world > db, tcp/80 udp/53", Denied),
            ("db > api cache world, v6:icmp", Passes),
            ("db > api cache world, v4:icmp tcp/80", Denied),
            ("api > web, v4:icmp", Denied),
        ],
    },
    Row {
        name: "whole protocols",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ ports = ["tcp", "proto/132"] }]
egress = [{ ports = ["proto/17", "icmp", "icmpv6"] }]"#,
        tries: &[
            ("web cache world > db, tcp/80 tcp/443 sctp/7", Passes),
            ("web cache world > db, udp/53 icmp", Denied),
            ("db > web cache world, udp/53 icmp", Passes),
            ("db > web cache world, tcp/80", Denied),
        ],
    },
    Row {
        name: "several rules add up",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "web", ports = "tcp/80" }]
[[policy.rule]]
endpoints = { app = "db" }
ingress = [{ from = "cache", ports = "tcp/443" }, { from = "web", ports = "udp/53" }]
[[policy.rule]]
endpoints = {}
ingress = [{ from = "world", ports = "tcp/5432" }]"#,
        tries: &[
            ("web > db, tcp/80 udp/53", Passes),
            ("web > db, tcp/443 tcp/5432 icmp", Denied),
            ("cache > db, tcp/443", Passes),
            ("cache > db, tcp/80 tcp/5432 udp/53", Denied),
            ("world > db web, tcp/5432", Passes),
            ("world > db web, tcp/80", Denied),
        ],
    },
    Row {
        name: "both ends are asked",
        policy: r#"[[policy.rule]]
endpoints = "web"
egress = [{ to = ["db", "cache"], ports = "tcp/80" }]
[[policy.rule]]
endpoints = "db"
ingress = [{ from = ["api"] }, { from = "web", ports = ["tcp/80", "tcp/443"] }]"#,
        tries: &[
            ("web > db, tcp/80", Passes),
            ("web > db, tcp/443 tcp/5432", Denied),
            ("web > cache, tcp/80", Passes),
            ("web > cache, tcp/443", Denied),
            ("api > db, tcp/443", Passes),
        ],
    },
    Row {
        name: "a rule that denies wins",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = [{ from = "all" }]
egress = [{ to = "all" }]
[[policy.rule]]
endpoints = { app = "db" }
ingress_deny = [{ from = { tier = "back" }, ports = "tcp/80" }, { from = "host", ports = "tcp/443" }]
egress_deny = [{ to = ["198.51.100.2", "2001:db8:51::2"] }]"#,
        tries: &[
            ("web bare world edge-2 > db, tcp/80", Passes),
            ("api cache > db, tcp/80", Listed),
            ("api cache > db, tcp/443 udp/53 icmp", Passes),
            ("host > db, tcp/443", Listed),
            ("host > db, tcp/80", Passes),
            ("db > world, tcp/80 udp/53 icmp", Listed),
            ("db > other web cache, tcp/80", Passes),
        ],
    },
    Row {
        name: "a rule that only denies closes the rest",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress_deny = [{ from = "web" }]"#,
        tries: &[
            ("web > db, tcp/80", Listed),
            ("api cache > db, tcp/80", Denied),
            ("db > web, tcp/80", Passes),
        ],
    },
    Row {
        name: "default_deny = false closes nothing",
        policy: r#"[[policy.rule]]
endpoints = "db"
default_deny = false
ingress_deny = [{ from = "web" }]
egress = [{ to = "cache" }]"#,
        tries: &[
            ("web > db, tcp/80", Listed),
            ("api cache world > db, tcp/80", Passes),
            ("db > cache world web, tcp/80", Passes),
        ],
    },
    Row {
        name: "enforcement = always closes whoever no rule speaks of",
        policy: r#"[policy]
enforcement = "always"
[[policy.rule]]
endpoints = ["db", "web"]
ingress = [{ from = "web" }]
egress = [{ to = "db" }]"#,
        tries: &[
            ("web > db, tcp/80 udp/53 icmp", Passes),
            ("api > bare, tcp/80", Denied),
            ("bare > db cache world, tcp/80", Denied),
            ("cache world > bare, tcp/80 icmp", Denied),
            ("host > bare, tcp/80", Passes),
        ],
    },
    Row {
        name: "enforcement = never closes nobody",
        policy: r#"[policy]
enforcement = "never"
[[policy.rule]]
endpoints = "db"
ingress = []
egress = []
ingress_deny = [{ from = "all" }]"#,
        tries: &[
            ("web cache world > db, tcp/80 udp/53 icmp", Passes),
            ("db > web cache world, tcp/80 udp/53 icmp", Passes),
        ],
    },
    Row {
        name: "an empty list closes",
        policy: r#"[[policy.rule]]
endpoints = "db"
ingress = []"#,
        tries: &[
            ("web cache world edge-2 > db, tcp/80 udp/53 icmp", Denied),
            ("host > db, tcp/80 udp/53 icmp", Passes),
            (
                "db > web cache world edge-2 host, tcp/80 udp/53 icmp",
                Passes,
            ),
        ],
    },
    Row {
        name: "a rule that is not about somebody does nothing to them",
        policy: r#"[[policy.rule]]
endpoints = { app = "nobody" }
ingress = []
egress = []
[[policy.rule]]
endpoints = "cache"
ingress = [{ from = "db" }]"#,
        tries: &[
            ("web world > db, tcp/80 udp/53 icmp", Passes),
            // The other node has another policy.
            ("web > cache, tcp/80", Passes),
        ],
    },
    Row {
        name: "audit of one endpoint",
        policy: r#"[[policy.rule]]
endpoints = ["db", "lax"]
ingress = []
egress_deny = [{ to = "world" }]"#,
        tries: &[
            ("web cache > lax, tcp/80 udp/53 icmp", Audited),
            ("lax > world cache, tcp/80", Audited),
            ("lax > db, tcp/443", Denied),
            ("web cache > db, tcp/443", Denied),
        ],
    },
    Row {
        name: "audit of everything",
        policy: r#"[policy]
audit = true
[[policy.rule]]
endpoints = "db"
ingress = []
egress_deny = [{ to = "world" }]"#,
        tries: &[
            ("web cache world > db, tcp/80 udp/53 icmp", Audited),
            ("db > world cache, tcp/80", Audited),
        ],
    },
];
