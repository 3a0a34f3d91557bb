//! Level lines of a convex function.

use crate::failure::Result;
use std::f64::consts::{PI, TAU};

/// Rays from the minimum.
const RAYS: usize = 360;
/// Halvings of the distance along a ray.
const HALVINGS: usize = 45;

/// The region where a function is at most some level, within a rectangle: it is convex, so each ray from
/// the minimum leaves it once.
pub struct Contour {
    angles: Vec<f64>,
    /// Where each ray leaves the region.
    points: Vec<(f64, f64)>,
    /// Whether it leaves it through the level line, not through the rectangle's side.
    crosses: Vec<bool>,
}

/// The regions of `levels`, within a rectangle that holds the `minimum`.
pub fn contours(
    levels: &[f64],
    [x, y]: [[f64; 2]; 2],
    minimum: [f64; 2],
    values: impl Fn(&[[f64; 2]]) -> Result<Vec<f64>>,
) -> Result<Vec<Contour>> {
    let mut angles: Vec<f64> = (0..RAYS).map(|i| TAU * i as f64 / RAYS as f64).collect();
    // The rectangle's corners are corners of the regions that hold them.
    for corner in [[x[0], y[0]], [x[0], y[1]], [x[1], y[0]], [x[1], y[1]]] {
        let angle = (corner[1] - minimum[1]).atan2(corner[0] - minimum[0]);
        angles.push(angle.rem_euclid(TAU));
    }
    angles.sort_by(f64::total_cmp);
    let at =
        |angle: f64, far: f64| [minimum[0] + far * angle.cos(), minimum[1] + far * angle.sin()];
    let side = |angle: f64| {
        let to = |along: f64, from: f64, [low, high]: [f64; 2]| match along {
            _ if along.abs() < 1e-12 => f64::INFINITY,
            _ if along > 0.0 => (high - from) / along,
            _ => (low - from) / along,
        };
        to(angle.cos(), minimum[0], x).min(to(angle.sin(), minimum[1], y))
    };
    let sides: Vec<f64> = angles.iter().map(|&angle| side(angle)).collect();
    let along = |far: &[f64]| -> Result<Vec<f64>> {
        let points: Vec<_> = angles.iter().zip(far).map(|(&angle, &far)| at(angle, far)).collect();
        values(&points)
    };
    let ends = along(&sides)?;
    levels
        .iter()
        .map(|&level| {
            let (mut inside, mut outside) = (vec![0.0; sides.len()], sides.clone());
            for _ in 0..HALVINGS {
                let middle: Vec<f64> =
                    inside.iter().zip(&outside).map(|(a, b)| 0.5 * (a + b)).collect();
                for (ray, value) in along(&middle)?.into_iter().enumerate() {
                    let bound = if value <= level { &mut inside } else { &mut outside };
                    bound[ray] = middle[ray];
                }
            }
            let crosses: Vec<bool> = ends.iter().map(|&value| value > level).collect();
            let point = |ray: usize| {
                let far = if crosses[ray] { inside[ray] } else { sides[ray] };
                let [x, y] = at(angles[ray], far);
                (x, y)
            };
            let points = (0..angles.len()).map(point).collect();
            Ok(Contour { angles: angles.clone(), points, crosses })
        })
        .collect()
}

impl Contour {
    /// The region's boundary.
    pub fn outline(&self) -> Vec<(f64, f64)> {
        self.points.clone()
    }

    /// The parts of the boundary that are the level line.
    pub fn lines(&self) -> Vec<Vec<(f64, f64)>> {
        let rays = self.points.len();
        if self.crosses.iter().all(|&crosses| crosses) {
            return vec![self.points.iter().chain(self.points.first()).copied().collect()];
        }
        // From a ray that ends at a side, so that no line goes over the first ray.
        let start = self.crosses.iter().position(|crosses| !crosses).unwrap_or(0);
        let mut lines = vec![Vec::new()];
        for ray in (0..rays).map(|i| (start + i) % rays) {
            if self.crosses[ray] {
                lines.last_mut().expect("it begins with one").push(self.points[ray]);
            } else if lines.last().is_some_and(|line| !line.is_empty()) {
                lines.push(Vec::new());
            }
        }
        lines.retain(|line| line.len() > 1);
        lines
    }

    /// Where the ray at an angle meets the level line.
    pub fn crossing(&self, angle: f64) -> Option<(f64, f64)> {
        let apart = |a: f64| ((a - angle + PI).rem_euclid(TAU) - PI).abs();
        let nearest = (0..self.angles.len())
            .min_by(|&a, &b| apart(self.angles[a]).total_cmp(&apart(self.angles[b])))?;
        self.crosses[nearest].then(|| self.points[nearest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paraboloid(points: &[[f64; 2]]) -> Result<Vec<f64>> {
        Ok(points.iter().map(|[x, y]| x * x + (y - 1.0) * (y - 1.0)).collect())
    }

    #[test]
    fn levels_of_a_paraboloid_are_circles() {
        let found =
            contours(&[1.0, 9.0, 100.0], [[-2.0, 2.0], [-1.0, 3.0]], [0.0, 1.0], paraboloid);
        let [small, cut, all] = &found.unwrap()[..] else { panic!() };
        let radius = |(x, y): (f64, f64)| (x * x + (y - 1.0) * (y - 1.0)).sqrt();
        assert_eq!(small.lines().len(), 1);
        assert!(small.outline().into_iter().all(|p| (radius(p) - 1.0).abs() < 1e-9));
        let (x, y) = small.crossing(PI).unwrap();
        assert!((x + 1.0).abs() < 1e-9 && (y - 1.0).abs() < 1e-9);
        // The circle of radius 3 leaves the square of half 2 to its corners, 2.83 away.
        assert!(cut.lines().is_empty() && all.lines().is_empty());
        assert!(
            all.outline().contains(&(2.0, 3.0))
                || all
                    .outline()
                    .iter()
                    .any(|p| { (p.0 - 2.0).abs() < 1e-9 && (p.1 - 3.0).abs() < 1e-9 })
        );
        assert!(all.crossing(0.0).is_none());
        let found = contours(&[6.25], [[-2.0, 2.0], [-1.0, 3.0]], [0.0, 1.0], paraboloid).unwrap();
        // Radius 2.5: four arcs in the corners.
        assert_eq!(found[0].lines().len(), 4);
        for point in found[0].lines().into_iter().flatten() {
            assert!((radius(point) - 2.5).abs() < 1e-9);
        }
    }
}
