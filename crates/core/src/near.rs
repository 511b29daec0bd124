//! Of names what somebody may have meant.

/// Of `names` the nearest: one that has it in itself, or differs in few letters.
pub fn closest<'a>(meant: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LETTERS_MAX: usize = 64;
    let few = meant.chars().count().div_ceil(3);
    let rank = |name: &&str| match name.contains(meant) {
        true => 0,
        false => letters_between(meant, name),
    };
    let names = names.filter(|name| name.chars().count() <= LETTERS_MAX);
    let nearest = names.min_by_key(|name| (rank(name), *name));
    nearest.filter(|name| meant.chars().count() <= LETTERS_MAX && rank(name) <= few)
}

/// How many letters are put in, taken out or changed between them.
fn letters_between(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = row.get(j).copied().unwrap_or_default() + usize::from(x != *y);
            let taken = row.get(j + 1).copied().unwrap_or_default() + 1;
            let put = next.last().copied().unwrap_or_default() + 1;
            next.push(changed.min(taken).min(put));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_meant_is_the_nearest_name_or_none() {
        let names = ["cpu_percent", "load1", "load5", "memory_total_bytes"];
        for (meant, near) in [
            ("cpu", Some("cpu_percent")),
            ("cpu_percnt", Some("cpu_percent")),
            ("laod1", Some("load1")),
            ("memory", Some("memory_total_bytes")),
            ("quatsch", None),
            ("", Some("cpu_percent")),
        ] {
            assert_eq!(closest(meant, names.into_iter()), near, "{meant}");
        }
        assert_eq!(closest(&"x".repeat(1000), names.into_iter()), None);
    }
}
