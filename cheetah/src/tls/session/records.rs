//! The records of one connection that are ours.

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{CipherSuite, ProtocolVersion};
use smallvec::SmallVec;

use super::super::record::{Alert, Keys, Version};

/// Handshake bytes of a record that is one `KeyUpdate` (RFC 8446 section 4.6.3), but for the last.
pub(super) const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// Both directions' keys, and the secrets that further ones come from.
pub(super) struct Records {
    pub(super) sealing: Keys,
    pub(super) opening: Keys,
    /// What has come of a handshake message that is not whole.
    pub(super) message: SmallVec<[u8; 5]>,
    pub(super) kernel: KernelConnection<ServerConnectionData>,
}

impl Records {
    pub(super) fn new(connection: UnbufferedServerConnection, fused: bool) -> Result<Records, rustls::Error> {
        let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
        let version = match kernel.protocol_version() {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            _ => Version::Tls13,
        };
        let keys = |(first, secrets): &(u64, _)| {
            let what = || rustls::Error::General("no AES-GCM of ours for this suite".to_owned());
            Keys::new(version, *first, secrets, fused).map_err(|_| what())
        };
        let (sealing, opening) = (keys(&secrets.tx)?, keys(&secrets.rx)?);
        Ok(Records { sealing, opening, message: SmallVec::new(), kernel })
    }

    /// Takes a record of handshake messages, of which there is but one that a client may send here. Gives
    /// whether it asks for another key of ours, once it is whole.
    pub(super) fn take_key_update(&mut self, content: &[u8]) -> Result<Option<bool>, Alert> {
        if content.is_empty() {
            return Err(Alert::UNEXPECTED_MESSAGE);
        }
        let missing = KEY_UPDATE.len() + 1 - self.message.len();
        let (begun, behind) = content.split_at(content.len().min(missing));
        self.message.extend_from_slice(begun);
        let (head, request) = self.message.split_at(self.message.len().min(KEY_UPDATE.len()));
        if head[0] != KEY_UPDATE[0] {
            return Err(Alert::UNEXPECTED_MESSAGE);
        }
        if *head != KEY_UPDATE[..head.len()] {
            return Err(Alert::DECODE_ERROR);
        }
        let asks = match *request {
            [] => return Ok(None),
            // Nothing may lie behind it under the old key (section 5.1).
            [0 | 1] if !behind.is_empty() => return Err(Alert::UNEXPECTED_MESSAGE),
            [0] => false,
            [1] => true,
            _ => return Err(Alert::ILLEGAL_PARAMETER),
        };
        self.message.clear();
        Ok(Some(asks))
    }
}

/// The suites whose records are ours.
pub(super) fn is_aes_gcm(suite: CipherSuite) -> bool {
    use CipherSuite as Suite;
    matches!(
        suite,
        Suite::TLS13_AES_128_GCM_SHA256
            | Suite::TLS13_AES_256_GCM_SHA384
            | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    )
}
