//! Medians, spreads, and ratios between servers of the same round.

/// A figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the rounds are below.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// Sums up; `None` of nothing.
pub fn spread(figures: &[f64]) -> Option<Spread> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    Some(Spread { median, min, max })
}

/// The ratio of each round to the same round of `reference`: what the machine did to a round, it did to both.
pub fn ratios(figures: &[f64], reference: &[f64]) -> Option<Spread> {
    let each: Vec<f64> = figures.iter().zip(reference).map(|(figure, reference)| figure / reference).collect();
    spread(&each)
}

/// Which of `candidates` has the best median. It is chosen once, by its median, and not anew in every round: the best of a
/// round would be the luckiest of it.
pub fn best(candidates: &[Vec<f64>], lowest: bool) -> Option<usize> {
    let medians = candidates.iter().enumerate().filter_map(|(at, figures)| Some((at, spread(figures)?.median)));
    let sign = if lowest { 1.0 } else { -1.0 };
    medians.min_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1))).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_slow_round_does_not_move_the_ratio() {
        assert_eq!(ratios(&[1.0, 10.0, 1.0], &[2.0, 20.0, 2.0]).map(|ratio| ratio.median), Some(0.5));
    }

    #[test]
    fn the_best_is_the_lowest_or_the_highest() {
        let candidates = [vec![2.0, 9.0, 2.0], vec![], vec![3.0, 1.0, 3.0]];
        assert_eq!(best(&candidates, true), Some(0));
        assert_eq!(best(&candidates, false), Some(2));
    }
}
