//! ROC and precision-recall curves of a score.

/// The curves of a score over all thresholds, and the areas under them.
#[derive(Debug)]
pub struct Ranking {
    /// False positive rate and true positive rate, from (0, 0) to (1, 1), at each distinct score.
    pub roc: Vec<(f64, f64)>,
    /// Recall and precision at each distinct score, by rising recall.
    pub precision_recall: Vec<(f64, f64)>,
    /// The probability that a positive scores above a negative, ties counted half (Mann–Whitney U).
    pub roc_auc: f64,
    /// Σ (Rₙ − Rₙ₋₁)·Pₙ over the thresholds, as scikit-learn defines it.
    pub average_precision: f64,
}

/// Ranks rows by their scores, which must not be NaN. Returns `None` if either class is empty.
pub fn rank(scores: &[f64], positive: &[bool]) -> Option<Ranking> {
    let positives = positive.iter().filter(|&&is| is).count();
    let negatives = positive.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));

    let mut ranking = Ranking {
        roc: vec![(0.0, 0.0)],
        precision_recall: vec![],
        roc_auc: 0.0,
        average_precision: 0.0,
    };
    let (mut true_positives, mut false_positives) = (0, 0);
    // The number of pairs with the positive above, doubled because a tie counts half.
    let mut above = 0_u128;
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let found = tied.iter().filter(|&&row| positive[row]).count();
        let wrong = tied.len() - found;
        above += found as u128 * (2 * (negatives - false_positives - wrong) + wrong) as u128;
        true_positives += found;
        false_positives += wrong;
        let recall = true_positives as f64 / positives as f64;
        let precision = true_positives as f64 / (true_positives + false_positives) as f64;
        ranking.average_precision += found as f64 / positives as f64 * precision;
        ranking.roc.push((false_positives as f64 / negatives as f64, recall));
        ranking.precision_recall.push((recall, precision));
    }
    ranking.roc_auc = above as f64 / (2.0 * positives as f64 * negatives as f64);
    Some(ranking)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scores: &[f64], labels: &[u8]) -> Ranking {
        let positive: Vec<bool> = labels.iter().map(|&label| label == 1).collect();
        rank(scores, &positive).unwrap()
    }

    #[test]
    fn agrees_with_a_result_by_hand() {
        // Thresholds 0.8, 0.4, 0.35, 0.1: precision 1, 1/2, 2/3, 1/2; recall 1/2, 1/2, 1, 1.
        let ranking = of(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]);
        assert_eq!(ranking.roc_auc, 0.75);
        assert!((ranking.average_precision - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-15);
        assert_eq!(ranking.roc, [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]);
        assert_eq!(
            ranking.precision_recall,
            [(0.5, 1.0), (0.5, 0.5), (1.0, 2.0 / 3.0), (1.0, 0.5)]
        );
    }

    #[test]
    fn ties_count_half() {
        let ranking = of(&[1.0, 1.0, 1.0, 1.0], &[1, 0, 0, 0]);
        assert_eq!((ranking.roc_auc, ranking.average_precision), (0.5, 0.25));
        assert_eq!(ranking.roc, [(0.0, 0.0), (1.0, 1.0)]);
        // Pairs: (2, 2) a tie, (2, 1) above, (1, 2) below, (1, 1) a tie.
        let ranking = of(&[2.0, 2.0, 1.0, 1.0], &[1, 0, 1, 0]);
        assert_eq!(ranking.roc_auc, 0.5);
        let ranking = of(&[0.0, -0.0], &[1, 0]);
        assert_eq!(ranking.roc_auc, 0.5, "-0 is 0");
    }

    #[test]
    fn best_and_worst_rankings_have_the_extreme_areas() {
        let best = of(&[3.0, 2.0, 1.0], &[1, 1, 0]);
        assert_eq!((best.roc_auc, best.average_precision), (1.0, 1.0));
        let worst = of(&[1.0, 2.0, f64::INFINITY], &[1, 0, 0]);
        assert_eq!(worst.roc_auc, 0.0);
        assert!((worst.average_precision - 1.0 / 3.0).abs() < 1e-15);
        assert!(rank(&[1.0, 2.0], &[true, true]).is_none() && rank(&[], &[]).is_none());
    }

    #[test]
    fn agrees_with_all_pairs_and_all_thresholds() {
        for case in 0..50_u64 {
            let mut state = case;
            let mut draw = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state >> 33
            };
            let rows = 2 + case as usize;
            let scores: Vec<f64> = (0..rows).map(|_| (draw() % 7) as f64).collect();
            let mut labels: Vec<u8> = (0..rows).map(|_| (draw() % 2) as u8).collect();
            (labels[0], labels[1]) = (1, 0);
            let found = of(&scores, &labels);

            let (mut wins, mut pairs) = (0.0, 0.0);
            for (i, j) in (0..rows).flat_map(|i| (0..rows).map(move |j| (i, j))) {
                if labels[i] == 1 && labels[j] == 0 {
                    pairs += 1.0;
                    wins += match scores[i].total_cmp(&scores[j]) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            assert!((found.roc_auc - wins / pairs).abs() < 1e-12);

            let positives = labels.iter().filter(|&&l| l == 1).count() as f64;
            let (mut before, mut precision_sum) = (0.0, 0.0);
            for threshold in (0..7).rev().map(f64::from) {
                let chosen = (0..rows).filter(|&i| scores[i] >= threshold);
                let (hits, all) =
                    chosen.fold((0.0, 0.0), |(h, n), i| (h + f64::from(labels[i]), n + 1.0));
                if all > 0.0 {
                    precision_sum += (hits / positives - before) * hits / all;
                    before = hits / positives;
                }
            }
            assert!((found.average_precision - precision_sum).abs() < 1e-12);
        }
    }
}
