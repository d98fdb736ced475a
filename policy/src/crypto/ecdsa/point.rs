//! Points of a curve `y^2 = x^3 - 3x + b` in Jacobian coordinates: `x = X/Z^2`, `y = Y/Z^3`; infinity has `Z = 0`.
//!
//! Doubling and addition are the textbook ones (e.g. Hankerson, Menezes, Vanstone: Guide to Elliptic Curve Cryptography,
//! algorithms 3.21 and 3.22). Addition has exceptions (infinity, a point and itself, a point and its negative), which
//! forgers can reach; each has a branch in [`Group::sum`] and a test.

use super::{curves::Parameters, digits::digits};
use crate::crypto::montgomery::{Modulus, is_zero};

/// Limbs of the largest field, that of P-521.
const MAX_LIMBS: usize = 17;

/// A number of the field, in form. The limbs above the field's are zero and never looked at.
#[derive(Debug, Clone)]
pub(super) struct Element([u32; MAX_LIMBS]);

/// A point.
#[derive(Debug, Clone)]
pub(super) struct Point {
    x: Element,
    y: Element,
    z: Element,
}

/// The field and the curve over it.
pub(super) struct Group {
    field: Modulus,
    one: Element,
    base: Point,
    b: Element,
}

const ZERO: Element = Element([0; MAX_LIMBS]);
const INFINITY: Point = Point { x: ZERO, y: ZERO, z: ZERO };

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
        let mut group = Self { field, one, base: INFINITY, b: ZERO };
        group.b = group.element(parameters.b)?;
        group.base = group.point(parameters.base.0, parameters.base.1)?;
        Some(group)
    }

    /// The point with these coordinates; `None` when one is not below the prime or the point is not on the curve.
    pub(super) fn point(&self, x: &[u8], y: &[u8]) -> Option<Point> {
        let (x, y) = (self.element(x)?, self.element(y)?);
        let square_less_three = self.subtract(&self.square(&x), &self.triple(&self.one));
        let right = self.add(&self.multiply(&square_less_three, &x), &self.b);
        self.is_zero(&self.subtract(&self.square(&y), &right)).then(|| Point { x, y, z: self.one.clone() })
    }

    /// The field's prime.
    pub(super) fn prime(&self) -> &[u32] {
        self.field.limbs()
    }

    /// Whether the point is infinity.
    pub(super) fn is_infinity(&self, point: &Point) -> bool {
        self.is_zero(&point.z)
    }

    /// Whether this, a number below the prime, is the x coordinate of a point that is not infinity.
    pub(super) fn has_x(&self, point: &Point, x: &[u32]) -> bool {
        let mut in_form = ZERO;
        self.field.enter(x, in_form.limbs_mut(self.field.n_limbs()));
        self.is_zero(&self.subtract(&self.multiply(&in_form, &self.square(&point.z)), &point.x))
    }

    /// `u1 * base + u2 * point`, for plain numbers of as many limbs as the field.
    pub(super) fn sum_of_multiples(&self, u1: &[u32], u2: &[u32], point: &Point) -> Point {
        let of_base = self.odd_multiples(&self.base);
        let of_point = self.odd_multiples(point);
        let mut sum = INFINITY;
        for (digit1, digit2) in digits(u1).into_iter().zip(digits(u2)).rev() {
            sum = self.double(&sum);
            for (digit, multiples) in [(digit1, &of_base), (digit2, &of_point)] {
                // The digits are odd or zero, and the table holds 1, 3, 5 and so on.
                match multiples.get(usize::from(digit.unsigned_abs() / 2)) {
                    Some(multiple) if digit > 0 => sum = self.sum(&sum, multiple),
                    Some(Point { x, y, z }) if digit < 0 => {
                        let negative = Point { x: x.clone(), y: self.subtract(&ZERO, y), z: z.clone() };
                        sum = self.sum(&sum, &negative);
                    }
                    _ => {}
                }
            }
        }
        sum
    }

    /// The point once, three times, and so on to fifteen times.
    fn odd_multiples(&self, point: &Point) -> [Point; 8] {
        let twice = self.double(point);
        let mut next = point.clone();
        core::array::from_fn(|_| {
            let after = self.sum(&next, &twice);
            core::mem::replace(&mut next, after)
        })
    }

    fn double(&self, point: &Point) -> Point {
        let zz = self.square(&point.z);
        let yy = self.square(&point.y);
        let slope = self.triple(&self.multiply(&self.subtract(&point.x, &zz), &self.add(&point.x, &zz)));
        let xyy4 = self.double_element(&self.double_element(&self.multiply(&point.x, &yy)));
        let x = self.subtract(&self.square(&slope), &self.double_element(&xyy4));
        let z = self.double_element(&self.multiply(&point.y, &point.z));
        let yyyy4 = self.square(&self.double_element(&yy));
        let y = self.subtract(&self.multiply(&slope, &self.subtract(&xyy4, &x)), &self.double_element(&yyyy4));
        Point { x, y, z }
    }

    fn sum(&self, one: &Point, other: &Point) -> Point {
        if self.is_infinity(one) {
            return other.clone();
        }
        if self.is_infinity(other) {
            return one.clone();
        }
        let (zz, other_zz) = (self.square(&one.z), self.square(&other.z));
        let left = self.multiply(&one.x, &other_zz);
        let width = self.subtract(&self.multiply(&other.x, &zz), &left);
        let low = self.multiply(&one.y, &self.multiply(&other.z, &other_zz));
        let height = self.subtract(&self.multiply(&other.y, &self.multiply(&one.z, &zz)), &low);
        if self.is_zero(&width) {
            // The same x: the same point, or its negative.
            return if self.is_zero(&height) { self.double(one) } else { INFINITY };
        }
        let square = self.square(&width);
        let cube = self.multiply(&square, &width);
        let left = self.multiply(&left, &square);
        let x = self.subtract(&self.subtract(&self.square(&height), &cube), &self.double_element(&left));
        let y = self.subtract(&self.multiply(&height, &self.subtract(&left, &x)), &self.multiply(&low, &cube));
        Point { x, y, z: self.multiply(&width, &self.multiply(&one.z, &other.z)) }
    }

    // === the field ===

    /// A big-endian number in form; `None` when it is not below the prime.
    fn element(&self, bytes: &[u8]) -> Option<Element> {
        let number = self.field.number(bytes)?;
        let mut element = ZERO;
        self.field.enter(&number, element.limbs_mut(number.len()));
        Some(element)
    }

    fn is_zero(&self, element: &Element) -> bool {
        is_zero(element.limbs(self.field.n_limbs()))
    }

    // Not inlined: points are sums of dozens of these, and each would be there as often.
    #[inline(never)]
    fn multiply(&self, one: &Element, other: &Element) -> Element {
        let (n, mut out) = (self.field.n_limbs(), ZERO);
        self.field.multiply(one.limbs(n), other.limbs(n), out.limbs_mut(n));
        out
    }

    #[inline(never)]
    fn add(&self, one: &Element, other: &Element) -> Element {
        let (n, mut out) = (self.field.n_limbs(), ZERO);
        self.field.add(one.limbs(n), other.limbs(n), out.limbs_mut(n));
        out
    }

    #[inline(never)]
    fn subtract(&self, one: &Element, other: &Element) -> Element {
        let (n, mut out) = (self.field.n_limbs(), ZERO);
        self.field.subtract(one.limbs(n), other.limbs(n), out.limbs_mut(n));
        out
    }

    fn square(&self, element: &Element) -> Element {
        self.multiply(element, element)
    }

    fn double_element(&self, element: &Element) -> Element {
        self.add(element, element)
    }

    fn triple(&self, element: &Element) -> Element {
        self.add(&self.add(element, element), element)
    }
}
