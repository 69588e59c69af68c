//! x
#![no_std]
#![no_main]
use cortex_m_rt::entry;
use mbert_firmware as _;
#[entry]
fn main() -> ! {
    let _p = embassy_stm32::init(Default::default());
    loop {}
}
