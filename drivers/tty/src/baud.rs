//! Line speeds: the codes of `CBAUD` and bits per second.

use abi::termios::{BOTHER, CBAUD, CIBAUD, IBSHIFT};

/// Speeds of codes 0 to 15, and of those with bit 12 (`CBAUDEX`) from 0x1001 on.
const LOW: [u32; 16] = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
const HIGH: [u32; 15] = [
    57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000,
    3000000, 3500000, 4000000,
];

/// Bits per second of a code; `None` for `BOTHER`, which says "see the speed field".
fn speed_of(code: u32) -> Option<u32> {
    match code {
        BOTHER => None,
        0..=15 => LOW.get(code as usize).copied(),
        _ => HIGH.get((code & 15).wrapping_sub(1) as usize).copied().or(Some(0)),
    }
}

/// Output and input speed that control modes `cflag` mean, where the explicit fields say `output` and `input`.
pub fn decode(cflag: u32, output: u32, input: u32) -> (u32, u32) {
    let output_speed = speed_of(cflag & CBAUD).unwrap_or(output);
    let input_code = (cflag & CIBAUD) >> IBSHIFT;
    let input_speed = match input_code {
        0 => output_speed,
        code => speed_of(code).unwrap_or(input),
    };
    (output_speed, input_speed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::termios::{B50, B38400, B115200, B4000000};

    #[test]
    fn codes_mean_their_speeds() {
        assert_eq!(decode(B38400, 1, 2), (38400, 38400));
        assert_eq!(decode(B115200, 1, 2), (115200, 115200));
        assert_eq!(decode(B4000000 | B50 << IBSHIFT, 1, 2), (4000000, 50));
        assert_eq!(decode(BOTHER, 31250, 2), (31250, 31250));
        assert_eq!(decode(BOTHER | BOTHER << IBSHIFT, 31250, 7), (31250, 7));
    }
}
