//! A hint to the processor.

/// Says that `what` will be needed soon, so that it comes from memory meanwhile. Nothing happens where that cannot be said.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = std::ptr::from_ref(what).cast();
        // SAFETY: it is a hint, which reads nothing and fails for no address, and every x86_64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}
