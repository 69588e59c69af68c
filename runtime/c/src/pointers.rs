//! Pointers of C's, checked as far as they can be, as slices and references of Rust's.

use core::ffi::c_char;

use crate::MbertStatus;

fn check<T>(pointer: *const T, count: usize) -> Result<(), MbertStatus> {
    if pointer.is_null() {
        return Err(MbertStatus::NullPointer);
    }
    if !pointer.is_aligned() {
        return Err(MbertStatus::MisalignedPointer);
    }
    let is_in_range = count.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes <= isize::MAX as usize);
    if is_in_range { Ok(()) } else { Err(MbertStatus::LengthOutOfRange) }
}

/// `count` values; none where `count` is 0, whatever the pointer.
///
/// # Safety
///
/// If the pointer is not null and aligned, so many values are there, and nobody writes to them meanwhile.
pub unsafe fn slice<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], MbertStatus> {
    if count == 0 {
        return Ok(&[]);
    }
    check(pointer, count)?;
    // SAFETY: checked as far as it can be; the rest is the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// The same, to be written to.
///
/// # Safety
///
/// If the pointer is not null and aligned, so many values are there, and nobody else touches them meanwhile.
pub unsafe fn slice_mut<'a, T>(pointer: *mut T, count: usize) -> Result<&'a mut [T], MbertStatus> {
    if count == 0 {
        return Ok(&mut []);
    }
    check(pointer, count)?;
    // SAFETY: checked as far as it can be; the rest is the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, count) })
}

/// A text.
///
/// # Safety
///
/// As [`slice`].
pub unsafe fn text<'a>(pointer: *const c_char, bytes: usize) -> Result<&'a str, MbertStatus> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(pointer.cast::<u8>(), bytes) }?;
    core::str::from_utf8(bytes).map_err(|_| MbertStatus::NotUtf8)
}

/// Writes where a result goes.
///
/// # Safety
///
/// If the pointer is not null and aligned, there is room for a value, which nobody else touches meanwhile.
pub unsafe fn put<T>(pointer: *mut T, value: T) -> Result<(), MbertStatus> {
    check(pointer, 1)?;
    // SAFETY: checked as far as it can be; the rest is the caller's promise.
    unsafe { pointer.write(value) };
    Ok(())
}
