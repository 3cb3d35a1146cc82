//! Devices for our own TCP/IP, a thread each: of the server and of the load generator.

use cheetah::transport::device::{self, DeviceOptions, OpenDevice};
use netstack::sharing::Sharing;

/// A device for each thread, and for several what they share.
pub(super) fn open_devices(
    options: &DeviceOptions,
    threads: usize,
) -> anyhow::Result<Vec<(OpenDevice, Option<Sharing>)>> {
    if threads == 1 {
        return Ok(vec![(device::open(options)?, None)]);
    }
    let parts = Sharing::among(threads)?;
    let shares: Vec<_> = parts.iter().map(Sharing::share).collect();
    Ok(device::open_shared(options, &shares)?.into_iter().zip(parts.into_iter().map(Some)).collect())
}
