//! From registers to typed arguments, and from results to `rax`.
//!
//! A handler is an ordinary function whose parameters say what the call takes: `fn(&mut Context, Fd, UserPtr<T>, …) ->
//! Result<usize>`. [`Handler`] is implemented for every such function of up to six parameters whose types are
//! [`FromRegister`]; the table in `crate::table` only names functions.
//!
//! Key types: [`Context`], [`FromRegister`], [`Handler`], [`Fd`]. Locks: none.

use abi::errno::Result;
use alloc::sync::Arc;
use machine::user::UserRegisters;
use mm::user::{UserPtr, UserString};
use task::Task;

/// What every handler is given: who calls, and with which registers.
pub struct Context<'a> {
    /// The calling thread.
    pub task: &'a Arc<Task>,
    /// Its registers; the call's number is in `orig_rax`.
    pub registers: &'a mut UserRegisters,
}

impl Context<'_> {
    /// The `index`-th argument register of the x86_64 calling convention, 0 to 5 (syscall(2)).
    #[inline(always)]
    fn argument(&self, index: usize) -> u64 {
        match index {
            0 => self.registers.rdi,
            1 => self.registers.rsi,
            2 => self.registers.rdx,
            3 => self.registers.r10,
            4 => self.registers.r8,
            _ => self.registers.r9,
        }
    }
}

/// A type that an argument register can be read as.
pub trait FromRegister: Sized {
    /// Whether the argument is the address of something in user memory.
    const POINTER: bool = false;
    /// The argument. Most types take any register; one that does not gives the errno Linux gives.
    fn from_register(value: u64) -> Result<Self>;
}

/// A file descriptor number as passed: not checked to be open, may be negative (`AT_FDCWD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub i32);

/// Registers that are taken as they are, cut to the type's width as Linux cuts them.
macro_rules! from_register_truncating {
    ($($type:ty),*) => {$(
        impl FromRegister for $type {
            #[inline(always)]
            fn from_register(value: u64) -> Result<Self> {
                Ok(value as $type)
            }
        }
    )*};
}
from_register_truncating!(i32, u32, i64, u64, usize, isize, u16);

impl FromRegister for Fd {
    #[inline(always)]
    fn from_register(value: u64) -> Result<Self> {
        Ok(Fd(value as i32))
    }
}

impl<T> FromRegister for UserPtr<T> {
    const POINTER: bool = true;
    #[inline(always)]
    fn from_register(value: u64) -> Result<Self> {
        Ok(UserPtr::new(value as usize))
    }
}

impl FromRegister for UserString {
    const POINTER: bool = true;
    #[inline(always)]
    fn from_register(value: u64) -> Result<Self> {
        Ok(UserString::new(value as usize))
    }
}

/// A function that can stand in the table. `Arguments` is inferred from its parameters.
pub trait Handler<Arguments> {
    /// Which of its arguments are pointers: bit 0 is the first.
    const POINTERS: u8;
    /// Decodes the arguments and calls.
    fn invoke(&self, context: &mut Context<'_>) -> Result<usize>;
}

macro_rules! handler_of {
    ($($name:ident = $index:literal),*) => {
        impl<Function, $($name: FromRegister),*> Handler<($($name,)*)> for Function
        where
            Function: Fn(&mut Context<'_>, $($name),*) -> Result<usize>,
        {
            const POINTERS: u8 = 0 $(| ($name::POINTER as u8) << $index)*;

            #[inline(always)]
            fn invoke(&self, context: &mut Context<'_>) -> Result<usize> {
                self(context, $($name::from_register(context.argument($index))?),*)
            }
        }
    };
}
handler_of!();
handler_of!(A = 0);
handler_of!(A = 0, B = 1);
handler_of!(A = 0, B = 1, C = 2);
handler_of!(A = 0, B = 1, C = 2, D = 3);
handler_of!(A = 0, B = 1, C = 2, D = 3, E = 4);
handler_of!(A = 0, B = 1, C = 2, D = 3, E = 4, F = 5);
