use super::*;

const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 7]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

fn at(seconds: u64) -> Instant {
    Instant::from_millis(1000 * seconds)
}

/// A server's usual answer: an hour.
fn answer(client: &DhcpClient, kind: DhcpKind) -> DhcpMessage {
    DhcpMessage {
        your_addr: ADDR,
        server: Some(SERVER),
        prefix_len: Some(24),
        router: Some(Ipv4Addr::new(10, 0, 0, 1)),
        lease_s: Some(3600),
        ..DhcpMessage::new(kind, client.transaction, HARDWARE)
    }
}

/// All that is due up to `end`, with the second in which it is.
fn until(client: &mut DhcpClient, end: u64) -> Vec<(u64, OutgoingMessage)> {
    let mut sent = Vec::new();
    while client.poll_timeout() <= at(end) {
        let now = client.poll_timeout();
        let (outgoing, _) = client.poll(now);
        sent.extend(outgoing.map(|outgoing| (now.as_millis() / 1000, outgoing)));
    }
    sent
}

/// A client that has its lease at the second 10.
fn bound() -> DhcpClient {
    let mut client = DhcpClient::new(HARDWARE, 5);
    assert!(client.poll(at(9)).0.is_some());
    assert_eq!(client.answered(at(10), &answer(&client, DhcpKind::Offer)), None);
    let request = client.poll(at(10)).0.expect("a request").message;
    assert_eq!(
        (request.kind, request.requested, request.server),
        (DhcpKind::Request, Some(ADDR), Some(SERVER))
    );
    assert_eq!(request.client_addr, Ipv4Addr::UNSPECIFIED);
    let change = client.answered(at(10), &answer(&client, DhcpKind::Ack));
    let Some(LeaseChange::Leased(lease)) = change else { panic!("{change:?}") };
    assert_eq!((lease.addr, lease.prefix_len, lease.expires), (ADDR, 24, Some(at(3610))));
    assert_eq!(lease.router, Some(Ipv4Addr::new(10, 0, 0, 1)));
    client
}

#[test]
fn servers_are_looked_for_at_doubling_times() {
    let mut client = DhcpClient::new(HARDWARE, 1);
    let sent = until(&mut client, 300);
    let waits: Vec<u64> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    for (wait, expected) in waits.iter().zip([4, 8, 16, 32, 64, 64]) {
        assert!(wait.abs_diff(expected) <= 2, "{waits:?}");
    }
    assert!(
        sent.iter()
            .all(|(_, sent)| sent.message.kind == DhcpKind::Discover && sent.to == Ipv4Addr::BROADCAST)
    );
    assert!(sent.windows(2).all(|pair| pair[0].1.message.transaction == pair[1].1.message.transaction));
}

#[test]
fn a_lease_is_renewed_then_rebound_then_over() {
    let mut client = bound();
    let sent = until(&mut client, 3609);
    let to = |to: Ipv4Addr| sent.iter().filter(move |(_, sent)| sent.to == to).collect::<Vec<_>>();
    let (to_server, to_all) = (to(SERVER), to(Ipv4Addr::BROADCAST));
    assert_eq!(to_server[0].0, 1810, "half of the lease");
    assert_eq!(to_all[0].0, 3160, "seven eighths of it");
    for (_, OutgoingMessage { message, .. }) in &sent {
        assert_eq!((message.kind, message.client_addr), (DhcpKind::Request, ADDR));
        assert_eq!((message.requested, message.server), (None, None), "section 4.3.2");
    }
    assert!(sent.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 60 || pair[1].0 == 3160), "{sent:?}");
    assert_eq!(client.poll(at(3610)), (None, Some(LeaseChange::Lost)));
    assert_eq!(client.lease(), None);
    assert_eq!(until(&mut client, 3630)[0].1.message.kind, DhcpKind::Discover);
}

#[test]
fn a_confirmation_begins_the_lease_anew() {
    let mut client = bound();
    assert_eq!(until(&mut client, 1811).len(), 1);
    let change = client.answered(at(1900), &answer(&client, DhcpKind::Ack));
    let Some(LeaseChange::Leased(lease)) = change else { panic!("{change:?}") };
    assert_eq!(lease.expires, Some(at(5500)));
    assert_eq!(client.poll_timeout(), at(3700));
}

#[test]
fn a_refusal_ends_it_and_is_not_asked_for_at_once() {
    let mut client = bound();
    until(&mut client, 1811);
    assert_eq!(client.answered(at(1900), &answer(&client, DhcpKind::Nak)), Some(LeaseChange::Lost));
    assert!(until(&mut client, 1909).is_empty());
    assert_eq!(until(&mut client, 1910)[0].1.message.kind, DhcpKind::Discover);
    // An unanswered request for an offer: four times, then from the beginning.
    client.answered(at(1910), &answer(&client, DhcpKind::Offer));
    let kinds: Vec<DhcpKind> = until(&mut client, 2000).iter().map(|(_, sent)| sent.message.kind).collect();
    assert_eq!(
        kinds[..5],
        [DhcpKind::Request, DhcpKind::Request, DhcpKind::Request, DhcpKind::Request, DhcpKind::Discover]
    );
}

#[test]
fn an_address_in_use_is_declined() {
    let mut client = bound();
    let OutgoingMessage { message, to } = client.decline(at(15)).expect("a message");
    assert_eq!(
        (message.kind, message.requested, message.server),
        (DhcpKind::Decline, Some(ADDR), Some(SERVER))
    );
    assert_eq!((to, client.lease()), (Ipv4Addr::BROADCAST, None));
    assert_eq!(client.poll_timeout(), at(25));
}

#[test]
fn answers_of_no_use_change_nothing() {
    let mut client = DhcpClient::new(HARDWARE, 3);
    client.poll(at(1));
    let good = answer(&client, DhcpKind::Offer);
    let bad = [
        DhcpMessage { transaction: good.transaction ^ 1, ..good },
        DhcpMessage { hardware_addr: EthernetAddress([2; 6]), ..good },
        DhcpMessage { your_addr: Ipv4Addr::UNSPECIFIED, ..good },
        DhcpMessage { your_addr: Ipv4Addr::new(10, 0, 0, 255), ..good },
        DhcpMessage { your_addr: Ipv4Addr::new(224, 0, 0, 1), ..good },
        DhcpMessage { your_addr: Ipv4Addr::LOCALHOST, ..good },
        DhcpMessage { server: None, ..good },
        DhcpMessage { server: Some(Ipv4Addr::BROADCAST), ..good },
        DhcpMessage { prefix_len: None, ..good },
        DhcpMessage { prefix_len: Some(0), ..good },
        DhcpMessage { lease_s: None, ..good },
        DhcpMessage { lease_s: Some(0), ..good },
        DhcpMessage { kind: DhcpKind::Ack, ..good },
        DhcpMessage { kind: DhcpKind::Nak, ..good },
    ];
    for message in bad {
        assert_eq!(client.answered(at(2), &message), None);
        assert_eq!(client.state, LeaseState::Selecting, "{message:?}");
    }
    client.answered(at(2), &good);
    client.poll(at(2));
    // Of another address than was asked for; a refusal by another server.
    let other = DhcpMessage { kind: DhcpKind::Ack, your_addr: Ipv4Addr::new(10, 0, 0, 51), ..good };
    assert_eq!(client.answered(at(3), &other), None);
    let stranger = DhcpMessage { kind: DhcpKind::Nak, server: Some(Ipv4Addr::new(10, 0, 0, 9)), ..good };
    assert_eq!(client.answered(at(3), &stranger), None);
    assert!(matches!(client.state, LeaseState::Requesting { .. }));
    // A router off the link is none, and times that contradict each other are not believed.
    let odd = DhcpMessage {
        kind: DhcpKind::Ack,
        router: Some(Ipv4Addr::new(192, 168, 0, 1)),
        renewal_s: Some(5000),
        rebinding_s: Some(1),
        ..good
    };
    let change = client.answered(at(3), &odd);
    assert!(matches!(change, Some(LeaseChange::Leased(Lease { router: None, .. }))), "{change:?}");
    assert!(client.poll_timeout() >= at(33) && client.poll_timeout() <= at(1803));
}

#[test]
fn an_infinite_lease_is_never_renewed() {
    let mut client = DhcpClient::new(HARDWARE, 3);
    client.poll(at(1));
    client.answered(at(1), &answer(&client, DhcpKind::Offer));
    client.poll(at(1));
    let forever = DhcpMessage { lease_s: Some(u32::MAX), ..answer(&client, DhcpKind::Ack) };
    assert!(matches!(
        client.answered(at(1), &forever),
        Some(LeaseChange::Leased(Lease { expires: None, .. }))
    ));
    assert!(client.poll_timeout() > at(4_000_000_000));
}
