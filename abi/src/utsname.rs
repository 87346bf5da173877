//! `uname`.

/// Bytes of each field, with its NUL.
pub const FIELD_SIZE: usize = 65;

/// `struct new_utsname`.
#[derive(
    Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable,
)]
#[repr(C)]
pub struct Utsname {
    /// `Linux`.
    pub sysname: [u8; FIELD_SIZE],
    /// Host name.
    pub nodename: [u8; FIELD_SIZE],
    /// Release.
    pub release: [u8; FIELD_SIZE],
    /// Version.
    pub version: [u8; FIELD_SIZE],
    /// Hardware.
    pub machine: [u8; FIELD_SIZE],
    /// NIS domain name.
    pub domainname: [u8; FIELD_SIZE],
}
const _: () = assert!(size_of::<Utsname>() == 390);

impl Utsname {
    /// A field holding `text`, cut to what fits with its NUL.
    pub fn field(text: &[u8]) -> [u8; FIELD_SIZE] {
        let mut field = [0; FIELD_SIZE];
        for (to, from) in field.iter_mut().take(FIELD_SIZE - 1).zip(text) {
            *to = *from;
        }
        field
    }
}
