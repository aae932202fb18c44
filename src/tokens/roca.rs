//! ROCA (CVE-2017-15361): RSA keys from a smart-card library whose primes all have one form, so
//! that the modulus can be factored.
//!
//! The primes were `k * M + 65537^a mod M`, with `M` a product of the first primes. Modulo each
//! small prime, such a modulus is a power of 65537; a random one is that for all of these primes
//! with a chance of about 2^-27.

/// The odd primes up to 167; more of them do not improve the test.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether `modulus`, big endian, has the fingerprint.
pub(super) fn is_weak(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let rest = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        is_power_of_65537(rest, *prime)
    })
}

fn is_power_of_65537(rest: u32, prime: u32) -> bool {
    let generator = 65537 % prime;
    let powers = std::iter::successors(Some(1 % prime), |power| Some(power * generator % prime));
    powers.take(prime as usize).any(|power| power == rest)
}
