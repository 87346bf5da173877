//! `/proc/net/dev`. Locks: none; goes from device to device by index.

use core::fmt::{self, Write};

use crate::namespace::NetNamespace;
use vfs::pseudo::Text;

/// Writes the table of interfaces with their counters (proc_pid_net(5)).
pub fn write_devices(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    out.write_str(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls \
         carrier compressed\n",
    )?;
    let mut next = 0;
    while let Some(device) = namespace.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        let sums = device.statistics().sums();
        writeln!(
            out,
            "{:>6}: {:7} {:7} {:4} {:4} {:4} {:5} {:10} {:9} {:8} {:7} {:4} {:4} {:4} {:5} {:7} {:10}",
            alloc::format!("{}", device.name()),
            sums.rx_bytes,
            sums.rx_packets,
            sums.rx_errors,
            sums.rx_dropped + sums.rx_missed_errors,
            sums.rx_fifo_errors,
            sums.rx_length_errors + sums.rx_over_errors + sums.rx_crc_errors + sums.rx_frame_errors,
            sums.rx_compressed,
            sums.multicast,
            sums.tx_bytes,
            sums.tx_packets,
            sums.tx_errors,
            sums.tx_dropped,
            sums.tx_fifo_errors,
            sums.collisions,
            sums.tx_carrier_errors
                + sums.tx_aborted_errors
                + sums.tx_window_errors
                + sums.tx_heartbeat_errors,
            sums.tx_compressed,
        )?;
    }
    Ok(())
}
