//! When to ask for the next certificate: at a random point in 50-80 % of the life of the present
//! one, so that boards that joined together do not renew together (HLD §9.2).

/// The moment of renewal in seconds since 1970, for a certificate that lives from `not_before` to
/// `not_after`. `random` is any number from the operating system, drawn once per certificate.
///
/// A life that is empty or ends before it starts is to be renewed at once.
#[must_use]
pub fn renew_at(not_before: u64, not_after: u64, random: u64) -> u64 {
    let life = not_after.saturating_sub(not_before);
    let earliest = life / 2;
    let window = share(life, 80).saturating_sub(earliest);
    let offset = match window.checked_add(1) {
        Some(moments) => random % moments,
        None => random,
    };
    not_before.saturating_add(earliest).saturating_add(offset)
}

/// `percent` of `life`, without overflow.
fn share(life: u64, percent: u64) -> u64 {
    (life / 100) * percent + (life % 100) * percent / 100
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_day_is_renewed_between_half_and_four_fifths() {
        assert_eq!(renew_at(1_000, 1_000 + 86_400, 0), 1_000 + 43_200);
        assert_eq!(renew_at(1_000, 1_000 + 86_400, 25_920), 1_000 + 69_120);
        assert_eq!(renew_at(1_000, 1_000 + 86_400, 25_921), 1_000 + 43_200);
    }

    #[test]
    fn an_empty_or_inverted_life_is_renewed_at_once() {
        assert_eq!(renew_at(500, 500, u64::MAX), 500);
        assert_eq!(renew_at(500, 100, u64::MAX), 500);
    }

    proptest! {
        #[test]
        fn the_moment_is_always_in_50_to_80_percent(
            not_before: u64, life: u64, random: u64,
        ) {
            let not_after = not_before.saturating_add(life);
            let life = u128::from(not_after - not_before);
            let used = u128::from(renew_at(not_before, not_after, random) - not_before);
            prop_assert!(used >= life / 2);
            prop_assert!(used * 100 <= life * 80);
        }
    }
}
