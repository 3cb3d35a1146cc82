//! What the authority says of when a certificate is to be renewed (RFC 9773): earlier than planned, say,
//! since it is going to revoke some, or spread over days.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use instant_acme::CertificateIdentifier;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::client::{WaitingClient, wait_for};
use crate::http::date;

/// It is asked again so soon at the earliest, and so late at the latest, whatever it says (section 4.3.2).
const SOONEST: i64 = 60;
pub(super) const LATEST: i64 = 86_400;

/// It is asked again so much later if it has said nothing of that, or nothing at all.
pub(super) const USUAL: i64 = 6 * 3600;

/// What was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// When to renew, in seconds since 1970; `None` if the authority does not say it.
    pub(super) at: Option<i64>,
    /// When to ask again.
    pub(super) again: i64,
}

/// What an authority knows a certificate by (section 4.1); `None` of one that does not name its authority's
/// key.
pub(super) fn id(certificate: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(named) => named.key_identifier.as_ref(),
        _ => None,
    })?;
    Some(CertificateIdentifier {
        authority_key_identifier: BASE64.encode(key.0).into(),
        serial: BASE64.encode(parsed.tbs_certificate.raw_serial()).into(),
    })
}

/// Asks the authority of `directory` about a certificate, at the second `now`. Of a window for all, `chance`
/// (0 to 1) is our moment.
///
/// # Errors
/// If the authority cannot be asked, or says what makes no sense.
pub(super) fn ask(
    client: &WaitingClient,
    directory: &str,
    id: &CertificateIdentifier<'_>,
    chance: f64,
    now: i64,
) -> io::Result<Advice> {
    let known = json(get(client, directory)?)?;
    let Some(url) = known["renewalInfo"].as_str() else {
        return Ok(Advice { at: None, again: now + USUAL });
    };
    let response = get(client, &format!("{}/{id}", url.trim_end_matches('/')))?;
    let again = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let again = again.and_then(|text| seconds_from(text, now)).unwrap_or(USUAL);
    let said = json(response)?;
    let at = window(&said["suggestedWindow"]).map(|(start, end)| {
        let length = end.saturating_sub(start) as f64;
        start.saturating_add((length * chance.clamp(0.0, 1.0)) as i64)
    });
    Ok(Advice { at, again: now + again.clamp(SOONEST, LATEST) })
}

fn get(client: &WaitingClient, url: &str) -> io::Result<Response<Vec<u8>>> {
    let request = Request::get(url).header("User-Agent", "cheetah").body(Vec::new());
    let (parts, body) = client.ask(&request.map_err(io::Error::other)?)?.into_parts();
    let body = wait_for(async { body.collect().await.map_err(|error| match error {}) });
    let body = body.map_err(io::Error::other)?.to_bytes().to_vec();
    if !parts.status.is_success() {
        return Err(io::Error::other(format!("{url}: {}", parts.status)));
    }
    Ok(Response::from_parts(parts, body))
}

fn json(response: Response<Vec<u8>>) -> io::Result<serde_json::Value> {
    serde_json::from_slice(response.body()).map_err(io::Error::other)
}

/// `Retry-After`: seconds, or a date.
fn seconds_from(text: &str, now: i64) -> Option<i64> {
    let text = text.trim();
    text.parse().ok().or_else(|| i64::try_from(date::parse(text.as_bytes())?).ok()?.checked_sub(now))
}

/// Beginning and end; none if it ends before it begins (section 4.2).
fn window(said: &serde_json::Value) -> Option<(i64, i64)> {
    let moment = |name: &str| seconds_of(said[name].as_str()?);
    let (start, end) = (moment("start")?, moment("end")?);
    (start < end).then_some((start, end))
}

/// Seconds since 1970 of `2025-01-02T04:00:00Z`, `2025-01-02t04:00:00.25+01:00` (RFC 3339 section 5.6), a
/// fraction left out.
fn seconds_of(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (day, rest) = text.split_once(['T', 't'])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let mut parts = day.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || month.len() != 2 {
        return None;
    }
    let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
    let local = date::parse_without_weekday(&format!("{day} {month} {year}"), clock)?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let east = match zone {
        "Z" | "z" => 0,
        _ => {
            let (sign, offset) = zone.split_at_checked(1)?;
            let (hours, minutes) = offset.split_once(':').filter(|_| offset.len() == 5)?;
            let seconds = (hours.parse::<u32>().ok()? * 60 + minutes.parse::<u32>().ok()?) * 60;
            match sign {
                "+" => i64::from(seconds),
                "-" => -i64::from(seconds),
                _ => return None,
            }
        }
    };
    i64::try_from(local).ok()?.checked_sub(east)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_read() {
        for (text, seconds) in [
            ("1994-11-06T08:49:37Z", Some(784_111_777)),
            ("1994-11-06t09:49:37.999+01:00", Some(784_111_777)),
            ("1994-11-06T05:19:37-03:30", Some(784_111_777)),
            ("2020-01-01T00:00:00Z", Some(1_577_836_800)),
            ("1994-11-06T08:49:37", None),
            ("1994-13-06T08:49:37Z", None),
            ("1994-00-06T08:49:37Z", None),
            ("1994-11-06-1T08:49:37Z", None),
            ("1994-11-06T08:49:37+99", None),
            ("1994-11-06", None),
            ("", None),
        ] {
            assert_eq!(seconds_of(text), seconds, "{text}");
        }
        assert_eq!(seconds_from("21600", 0), Some(21_600));
        assert_eq!(seconds_from("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_000), Some(777));
        assert_eq!(seconds_from("soon", 0), None);
        let said = |start: &str, end: &str| window(&serde_json::json!({ "start": start, "end": end }));
        assert_eq!(said("1994-11-06T08:49:37Z", "1994-11-06T08:49:39Z"), Some((784_111_777, 784_111_779)));
        assert_eq!(said("1994-11-06T08:49:37Z", "1994-11-06T08:49:37Z"), None);
        assert_eq!(window(&serde_json::Value::Null), None);
    }

    #[test]
    fn a_certificate_that_signs_itself_is_known_to_no_authority() {
        let made = rcgen::generate_simple_self_signed(vec!["one.test".to_owned()]).unwrap();
        assert!(id(made.cert.der()).is_none());
        assert!(id(&CertificateDer::from(vec![0x30; 10])).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|[0-9]{2}|[-:TZ+.]){0,30}") {
            let _ = (seconds_of(&text), seconds_from(&text, 0));
        }
    }
}
