//! What no loopback server can show: names with several addresses.

use std::net::IpAddr;

use super::address::Reach;

fn allowed(reach: Reach, addresses: &[&str]) -> Result<Vec<String>, Option<String>> {
    let addresses = addresses.iter().map(|address| address.parse::<IpAddr>().unwrap());
    let texts = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect();
    reach.allowed(addresses).map(texts).map_err(|refusal| refusal.map(|refusal| refusal.to_string()))
}

#[test]
fn only_the_allowed_addresses_of_a_name_are_connected_to() {
    let mixed = ["10.0.0.1", "1.1.1.1", "169.254.169.254", "2606:4700::1111"];
    assert_eq!(allowed(Reach::Public, &mixed), Ok(vec!["1.1.1.1".to_owned(), "2606:4700::1111".to_owned()]));
    assert_eq!(allowed(Reach::Private, &mixed), Ok(vec!["10.0.0.1".to_owned(), "1.1.1.1".to_owned(), "2606:4700::1111".to_owned()]));
    assert_eq!(allowed(Reach::Loopback, &["127.0.0.1", "1.1.1.1"]), Ok(vec!["127.0.0.1".to_owned()]));
}

#[test]
fn a_refusal_does_not_change_with_the_resolvers_order() {
    let refusal = Err(Some("10.0.0.1 is a private address; allow_private permits it".to_owned()));
    assert_eq!(allowed(Reach::Public, &["10.0.0.1", "10.0.0.2"]), refusal);
    assert_eq!(allowed(Reach::Public, &["10.0.0.2", "10.0.0.1"]), refusal);
    assert_eq!(allowed(Reach::Public, &[]), Err(None));
}

#[test]
fn plain_http_to_localhost_never_leaves_this_machine() {
    let refusal = "1.1.1.1 is no loopback address; allow_http_loopback permits plain http to loopback only";
    assert_eq!(allowed(Reach::Loopback, &["1.1.1.1"]), Err(Some(refusal.to_owned())));
}
