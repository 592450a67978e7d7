//! Many questions at once under a closed ingress: each answer is known for one.

use std::net::UdpSocket;

use tests::lab::conversation::bound;
use tests::lab::estate::{Estate, Resident};
use tests::lab::{uninterrupted, wait_until};
use tests::party::Family;

const RESIDENTS: [&[Resident]; 2] = [&[("web", ""), ("db", "")], &[("cache", "")]];
const CLOSED: &str = "[[policy.rule]]\nendpoints = \"web\"\ningress = []\n";

/// As many as there are places for flows that wait, so that a third of them have to share.
const QUESTIONS: usize = 256;

#[test]
fn answers_to_a_burst_of_questions_need_no_rule() {
    for mode in ["bpf", "legacy"] {
        let net = Estate::new(mode, &RESIDENTS);
        net.apply(0, CLOSED);
        for family in Family::BOTH {
            for to in ["db", "cache", "world"] {
                let server = bound(net.place(to), net.address(to, family));
                let target = server.local_addr().expect("bound");
                let near = net.address("web", family);
                let clients: Vec<UdpSocket> = (0..QUESTIONS)
                    .map(|_| bound(net.place("web"), near))
                    .collect();
                for client in &clients {
                    client.send_to(b"question", target).expect("send");
                }
                // All have asked before the first is answered.
                let askers: Vec<_> = (0..QUESTIONS)
                    .map(|_| {
                        uninterrupted(|| server.recv_from(&mut [0; 16]))
                            .expect("a question arrives")
                            .1
                    })
                    .collect();
                for asker in askers {
                    server.send_to(b"answer", asker).expect("send");
                }

                let what = format!("{to} answers all, {family:?}, {mode}");
                let mut waiting: Vec<&UdpSocket> = clients.iter().collect();
                for client in &waiting {
                    client.set_nonblocking(true).expect("a socket may not wait");
                }
                wait_until(&what, || {
                    waiting.retain(|client| client.recv(&mut [0; 16]).is_err());
                    waiting.is_empty()
                });
            }
        }
    }
}
