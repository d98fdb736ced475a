//! Points of a curve `y^2 = x^3 - 3x + b` in projective coordinates: `x = X/Z`, `y = Y/Z`.
//!
//! Addition is by the complete formula of Renes, Costello and Batina ("Complete addition formulas for prime
//! order elliptic curves", 2015, algorithm 4): it has no exceptional cases, doubling and infinity `(0 : 1 : 0)` included,
//! so there is no input that finds a forgotten one.

use super::curves::Parameters;
use crate::crypto::montgomery::{Modulus, is_zero};

/// Limbs of the largest field, that of P-521.
const MAX_LIMBS: usize = 17;

/// A number of the field, in form. The limbs above the field's are zero and never looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element([u32; MAX_LIMBS]);

/// A point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    x: Element,
    y: Element,
    z: Element,
}

/// The field and the curve over it.
pub(super) struct Group {
    field: Modulus,
    one: Element,
    b: Element,
    base: Point,
}

const ZERO: Element = Element([0; MAX_LIMBS]);

impl Element {
    fn limbs(&self, n: usize) -> &[u32] {
        self.0.get(..n).unwrap_or_default()
    }

    fn limbs_mut(&mut self, n: usize) -> &mut [u32] {
        self.0.get_mut(..n).unwrap_or_default()
    }
}

impl Group {
    /// The group of a curve.
    pub(super) fn new(parameters: &Parameters) -> Option<Self> {
        let field = Modulus::new(parameters.prime).filter(|field| field.n_limbs() <= MAX_LIMBS)?;
        let mut one = ZERO;
        one.limbs_mut(field.n_limbs()).copy_from_slice(field.one());
        let infinity = Point { x: ZERO, y: one, z: ZERO };
        let mut group = Self { field, one, b: ZERO, base: infinity };
        group.b = group.element(parameters.b)?;
        group.base = group.point(parameters.base.0, parameters.base.1)?;
        Some(group)
    }

    /// The point with these coordinates; `None` when one is not below the prime or the point is not on the curve.
    pub(super) fn point(&self, x: &[u8], y: &[u8]) -> Option<Point> {
        let (x, y) = (self.element(x)?, self.element(y)?);
        let cube_less_three = self.subtract(self.square(x), self.triple(self.one));
        let right = self.add(self.multiply(cube_less_three, x), self.b);
        let difference = self.subtract(self.square(y), right);
        self.is_zero(difference).then_some(Point { x, y, z: self.one })
    }

    /// The field's prime.
    pub(super) fn prime(&self) -> &[u32] {
        self.field.limbs()
    }

    fn infinity(&self) -> Point {
        Point { x: ZERO, y: self.one, z: ZERO }
    }

    /// Whether the point is infinity.
    pub(super) fn is_infinity(&self, point: &Point) -> bool {
        self.is_zero(point.z)
    }

    /// Whether this, a number below the prime, is the x coordinate of a point that is not infinity.
    pub(super) fn has_x(&self, point: &Point, x: &[u32]) -> bool {
        let mut in_form = ZERO;
        self.field.enter(x, in_form.limbs_mut(self.field.n_limbs()));
        let difference = self.subtract(self.multiply(in_form, point.z), point.x);
        self.is_zero(difference)
    }

    /// `u1 * base + u2 * point`, for plain numbers: four bits of both at a time.
    pub(super) fn sum_of_multiples(&self, u1: &[u32], u2: &[u32], point: &Point) -> Point {
        let (of_base, of_point) = (self.multiples(&self.base), self.multiples(point));
        let mut sum = self.infinity();
        for (limb1, limb2) in u1.iter().zip(u2).rev() {
            for shift in (0..32).step_by(4).rev() {
                for _ in 0..4 {
                    sum = self.sum(&sum, &sum);
                }
                for (limb, multiples) in [(limb1, &of_base), (limb2, &of_point)] {
                    // Nothing is added for zero, and the table begins with the point itself.
                    let multiple = ((limb >> shift & 15) as usize).checked_sub(1).and_then(|at| multiples.get(at));
                    if let Some(multiple) = multiple {
                        sum = self.sum(&sum, multiple);
                    }
                }
            }
        }
        sum
    }

    /// The point once to fifteen times.
    fn multiples(&self, point: &Point) -> [Point; 15] {
        let mut last = self.infinity();
        core::array::from_fn(|_| {
            last = self.sum(&last, point);
            last
        })
    }

    /// Also of a point with itself: doubling by its own formula would save one multiplication of fourteen.
    fn sum(&self, one: &Point, other: &Point) -> Point {
        let (xx, yy) = (self.multiply(one.x, other.x), self.multiply(one.y, other.y));
        let zz = self.multiply(one.z, other.z);
        // The mixed products x1 y2 + x2 y1 and so on, each by one multiplication.
        let mixed =
            |a1, b1, a2, b2, aa, bb| self.subtract(self.multiply(self.add(a1, b1), self.add(a2, b2)), self.add(aa, bb));
        let xy = mixed(one.x, one.y, other.x, other.y, xx, yy);
        let yz = mixed(one.y, one.z, other.y, other.z, yy, zz);
        let xz = mixed(one.x, one.z, other.x, other.z, xx, zz);
        let first = self.triple(self.subtract(xz, self.multiply(self.b, zz)));
        let (above, below) = (self.add(yy, first), self.subtract(yy, first));
        let zz = self.triple(zz);
        let second = self.triple(self.subtract(self.subtract(self.multiply(self.b, xz), zz), xx));
        let third = self.subtract(self.triple(xx), zz);
        Point {
            x: self.subtract(self.multiply(above, xy), self.multiply(yz, second)),
            y: self.add(self.multiply(above, below), self.multiply(third, second)),
            z: self.add(self.multiply(below, yz), self.multiply(xy, third)),
        }
    }

    // === the field ===

    /// A big-endian number in form; `None` when it is not below the prime.
    fn element(&self, bytes: &[u8]) -> Option<Element> {
        let number = self.field.number(bytes)?;
        let mut element = ZERO;
        self.field.enter(&number, element.limbs_mut(number.len()));
        Some(element)
    }

    fn is_zero(&self, element: Element) -> bool {
        is_zero(element.limbs(self.field.n_limbs()))
    }

    fn multiply(&self, one: Element, other: Element) -> Element {
        self.by(one, other, Modulus::multiply)
    }

    fn square(&self, element: Element) -> Element {
        self.multiply(element, element)
    }

    fn add(&self, one: Element, other: Element) -> Element {
        self.by(one, other, Modulus::add)
    }

    fn subtract(&self, one: Element, other: Element) -> Element {
        self.by(one, other, Modulus::subtract)
    }

    fn triple(&self, element: Element) -> Element {
        self.add(self.add(element, element), element)
    }

    fn by(&self, one: Element, other: Element, operation: impl Fn(&Modulus, &[u32], &[u32], &mut [u32])) -> Element {
        let n = self.field.n_limbs();
        let mut out = ZERO;
        operation(&self.field, one.limbs(n), other.limbs(n), out.limbs_mut(n));
        out
    }
}
