//! How far a source was read. A time alone does not say: several lines may have the same, and Podman's API tells
//! whole seconds. So it is a time, and how many lines of exactly that time were seen.

/// Through so many lines of those at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub at_ns: i64,
    pub lines: u32,
}

impl Place {
    /// A line was read.
    pub fn note(&mut self, at_ns: i64) {
        if self.lines > 0 && at_ns == self.at_ns {
            self.lines = self.lines.saturating_add(1);
        } else {
            *self = Self { at_ns, lines: 1 };
        }
    }
}

/// Passes over what was seen before.
#[derive(Debug, Clone, Copy)]
pub struct Resume {
    after: Option<Place>,
    passed: u32,
}

impl Resume {
    pub fn after(after: Option<Place>) -> Self {
        Self { after, passed: 0 }
    }

    /// Of the lines in the order in which the source gives them. Once one is new, all that follow are: a clock that
    /// is set back hides nothing.
    pub fn is_new(&mut self, at_ns: i64) -> bool {
        let Some(after) = self.after else { return true };
        if at_ns < after.at_ns {
            return false;
        }
        if at_ns == after.at_ns && self.passed < after.lines {
            self.passed += 1;
            return false;
        }
        self.after = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these times are new after the first `seen` of them.
    fn check(times: &[i64], seen: usize, again_from: i64, new: &[i64]) {
        let mut place = Place::default();
        times[..seen].iter().for_each(|at| place.note(*at));
        let mut resume = Resume::after(Some(place));
        let again = times.iter().filter(|at| **at >= again_from);
        let found: Vec<_> = again.copied().filter(|at| resume.is_new(*at)).collect();
        assert_eq!(found, new);
    }

    #[test]
    fn a_reader_goes_on_without_a_gap_and_without_a_repetition() {
        check(&[1, 2, 3], 2, 2, &[3]);
        check(&[1, 2, 2, 2, 3], 3, 2, &[2, 3]);
        check(&[1, 2, 2, 2, 3], 3, 0, &[2, 3]);
        check(&[2, 2], 2, 2, &[]);
        check(&[5, 9, 3, 4], 2, 9, &[]);
    }

    #[test]
    fn a_clock_that_is_set_back_hides_nothing_that_comes_after() {
        let mut resume = Resume::after(Some(Place { at_ns: 9, lines: 1 }));
        let new: Vec<_> = [9, 10, 3, 4].into_iter().filter(|at| resume.is_new(*at)).collect();
        assert_eq!(new, [10, 3, 4]);
    }

    #[test]
    fn without_a_place_everything_is_new() {
        assert!(Resume::after(None).is_new(i64::MIN));
    }
}
