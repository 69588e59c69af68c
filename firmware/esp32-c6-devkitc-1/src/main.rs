//! x
#![no_std]
#![no_main]
use mbert_firmware as _;
#[esp_hal::main]
fn main() -> ! {
    let _p = esp_hal::init(esp_hal::Config::default());
    loop {}
}
