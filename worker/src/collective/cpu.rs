//! What decides the last bits of a matrix product on this machine.

/// Architecture and the instruction set that the matrix kernels dispatch on, such as
/// `x86_64/avx2+fma`. Two machines of one kind compute the same bits.
pub fn cpu_kind() -> String {
    format!("{}/{}", std::env::consts::ARCH, instruction_set())
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn instruction_set() -> &'static str {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    if avx2 && is_x86_feature_detected!("avx512f") {
        "avx512f"
    } else if avx2 {
        "avx2+fma"
    } else {
        "sse2"
    }
}

#[cfg(target_arch = "aarch64")]
fn instruction_set() -> &'static str {
    "neon"
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn instruction_set() -> &'static str {
    "scalar"
}

#[cfg(test)]
mod tests {
    use super::cpu_kind;

    #[test]
    fn names_architecture_and_instruction_set() {
        let kind = cpu_kind();
        let (architecture, set) = kind.split_once('/').unwrap();
        assert_eq!(architecture, std::env::consts::ARCH);
        assert!(!set.is_empty());
        assert_eq!(kind, cpu_kind());
    }
}
