//! XSAVE images: how large, and which a processor would accept.

/// Bytes of the legacy area and the header.
pub const MIN: usize = 576;
/// The processor's bits of MXCSR; others raise #GP.
const MXCSR_MASK: u32 = 0xffff;
/// Offsets in the image.
const MXCSR: usize = 24;
const SOFTWARE: std::ops::Range<usize> = 464..512;
const XSTATE_BV: std::ops::Range<usize> = 512..520;
const HEADER_REST: std::ops::Range<usize> = 520..576;

/// Bytes of a standard-format image with all components that a process has without asking (AMX must be asked for).
#[must_use]
pub fn xsave_size() -> usize {
    const ARCH_GET_XCOMP_PERM: i32 = 0x1022;
    let mut permitted = 0_u64;
    // SAFETY: the kernel writes one 64-bit mask; before Linux 5.16 it refuses, and there is no AMX to exclude.
    let known = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &raw mut permitted) } == 0;
    let components = if known { enabled() & permitted } else { enabled() };
    let end_of = |component: u32| {
        let leaf = std::arch::x86_64::__cpuid_count(0xd, component);
        (leaf.ebx + leaf.eax) as usize
    };
    (2..63).filter(|&component| components >> component & 1 != 0).map(end_of).max().unwrap_or(MIN).max(MIN)
}

/// Components that the host has enabled.
#[must_use]
pub fn enabled() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: XGETBV exists wherever the host enables XSAVE, which Linux does on every processor with FSGSBASE.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// The initial state.
#[must_use]
pub fn initial(size: usize) -> Vec<u8> {
    let mut image = vec![0; size.max(MIN)];
    image[0..2].copy_from_slice(&0x037f_u16.to_le_bytes());
    image[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80_u32.to_le_bytes());
    image
}

/// Makes an image harmless: only enabled components, a clean header, legal MXCSR bits. `None`: too short to be one.
#[must_use]
pub fn sanitise(image: &[u8], size: usize) -> Option<Vec<u8>> {
    if image.len() < 512 {
        return None;
    }
    let mut clean = vec![0; size.max(MIN)];
    let n = image.len().min(clean.len());
    clean[..n].copy_from_slice(&image[..n]);
    clean[SOFTWARE].fill(0);
    let mut mxcsr = [0; 4];
    mxcsr.copy_from_slice(&clean[MXCSR..MXCSR + 4]);
    clean[MXCSR..MXCSR + 4].copy_from_slice(&(u32::from_le_bytes(mxcsr) & MXCSR_MASK).to_le_bytes());
    let mut components = [0; 8];
    components.copy_from_slice(&clean[XSTATE_BV]);
    // Without a header only the legacy components are there.
    let claimed = if image.len() < MIN { 3 } else { u64::from_le_bytes(components) };
    clean[XSTATE_BV].copy_from_slice(&(claimed & enabled()).to_le_bytes());
    clean[HEADER_REST].fill(0);
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift: the same images in every run.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn whatever_a_guest_writes_becomes_an_image_that_the_processor_takes() {
        let size = xsave_size();
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..500 {
            let len = usize::try_from(random(&mut state) % 20_000).expect("small");
            let mut image: Vec<u8> = (0..len).map(|_| random(&mut state).to_le_bytes()[3]).collect();
            if random(&mut state).is_multiple_of(2) {
                image.fill(0xff);
            }
            let Some(clean) = sanitise(&image, size) else {
                assert!(len < 512);
                continue;
            };
            assert_eq!(clean.len(), size.max(MIN));
            let word = |at: usize| u64::from_le_bytes(clean[at..at + 8].try_into().expect("eight bytes"));
            assert_eq!(word(XSTATE_BV.start) & !enabled(), 0);
            assert!(clean[HEADER_REST].iter().chain(&clean[SOFTWARE]).all(|&byte| byte == 0));
            assert!(u32::try_from(word(MXCSR) & 0xffff_ffff).expect("32 bits") <= MXCSR_MASK);
        }
    }
}
