//! x
#![no_std]
#![no_main]
use mbert_firmware as _;
#[rp235x_hal::entry]
fn main() -> ! {
    loop {}
}
