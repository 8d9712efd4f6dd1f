//! Arithmetic of intervals, wide enough for what rounding errs by and for what counts as equal.

/// What is taken for an error of rounding, as a share of the larger number: more than comparisons do.
const ERROR: f64 = 4e-12;

/// All numbers between two, which may be infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    pub(super) const EVERYTHING: Self = Self {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
    };

    /// A bound that is no number, as a difference of infinite ones, is none.
    pub(super) fn new(low: f64, high: f64) -> Self {
        let or = |x: f64, other: f64| if x.is_nan() { other } else { x };
        Self {
            low: or(low, f64::NEG_INFINITY),
            high: or(high, f64::INFINITY),
        }
    }

    pub(super) fn is_everything(self) -> bool {
        self.low == f64::NEG_INFINITY && self.high == f64::INFINITY
    }

    fn magnitude(self) -> f64 {
        f64::max(self.low.abs(), self.high.abs())
    }

    /// What two numbers of these may differ by and be equal.
    pub(super) fn slack(a: Self, b: Self) -> f64 {
        let ends = [a.low, a.high, b.low, b.high].map(f64::abs);
        // Infinite ones are no farther away.
        let finite = ends.into_iter().filter(|end| end.is_finite());
        ERROR * finite.fold(0.0, f64::max)
    }

    fn is_finite(self) -> bool {
        self.magnitude().is_finite()
    }

    pub(super) fn wider(self, by: f64) -> Self {
        Self::new(self.low - by, self.high + by)
    }

    pub(super) fn negative(self) -> Self {
        Self::new(-self.high, -self.low)
    }

    fn has_zero(self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }

    /// The hull of what corners come to, and a little more.
    fn around(corners: &[f64]) -> Self {
        if corners.iter().any(|x| x.is_nan()) {
            return Self::EVERYTHING;
        }
        let low = corners.iter().copied().fold(f64::INFINITY, f64::min);
        let high = corners.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let found = Self::new(low, high);
        let outwards = |x: f64| if x.is_finite() { ERROR * x.abs() } else { 0.0 };
        Self::new(low - outwards(low), high + outwards(high)).including(found)
    }

    fn including(self, other: Self) -> Self {
        Self::new(
            f64::min(self.low, other.low),
            f64::max(self.high, other.high),
        )
    }

    /// What arithmetic comes to.
    pub(super) fn with(self, operator: char, b: Self) -> Self {
        let a = self;
        match operator {
            '+' => Self::new(a.low + b.low, a.high + b.high).wider(Self::slack(a, b)),
            '-' => Self::new(a.low - b.high, a.high - b.low).wider(Self::slack(a, b)),
            '*' => Self::around(&[
                a.low * b.low,
                a.low * b.high,
                a.high * b.low,
                a.high * b.high,
            ]),
            '/' if !b.has_zero() => Self::around(&[
                a.low / b.low,
                a.low / b.high,
                a.high / b.low,
                a.high / b.high,
            ]),
            '/' | '%' => Self::EVERYTHING,
            // A power: monotone in each where the base is positive.
            _ if a.low > 0.0 => Self::around(&[
                libm::pow(a.low, b.low),
                libm::pow(a.low, b.high),
                libm::pow(a.high, b.low),
                libm::pow(a.high, b.high),
            ]),
            _ => Self::EVERYTHING,
        }
    }

    /// What the operands must be in for arithmetic on them to come to what is wanted.
    pub(super) fn undone(operator: char, wanted: Self, a: Self, b: Self) -> (Self, Self) {
        let over = |wanted: Self, other: Self| match other.has_zero() {
            true => Self::EVERYTHING,
            // A product of small numbers may be none.
            false => wanted.wider(f64::MIN_POSITIVE).with('/', other),
        };
        match operator {
            '+' | '-' if !a.is_finite() || !b.is_finite() => (Self::EVERYTHING, Self::EVERYTHING),
            '+' => {
                let slack = Self::slack(a, b);
                (
                    wanted.wider(slack).with('-', b),
                    wanted.wider(slack).with('-', a),
                )
            }
            '-' => {
                let slack = Self::slack(a, b);
                (
                    wanted.wider(slack).with('+', b),
                    a.with('-', wanted.wider(slack)),
                )
            }
            '*' => (over(wanted, b), over(wanted, a)),
            // The divisor's bounds follow where neither side can be nothing.
            '/' if !b.has_zero() => (wanted.with('*', b), over(a, wanted)),
            _ => (Self::EVERYTHING, Self::EVERYTHING),
        }
    }

    /// What a function of one number comes to.
    pub(super) fn called(self, function: &str) -> Self {
        let Self { low, high } = self;
        let positive = f64::max(low, 0.0);
        match function {
            "abs" if self.has_zero() => Self::new(0.0, self.magnitude()),
            "abs" => Self::new(f64::min(low.abs(), high.abs()), self.magnitude()),
            "sqrt" => Self::around(&[libm::sqrt(positive), libm::sqrt(f64::max(high, 0.0))]),
            "exp" => Self::around(&[libm::exp(low), libm::exp(high)]),
            "log" => {
                Self::around(&[libm::log(positive), libm::log(f64::max(high, 0.0))]).wider(ERROR)
            }
            "log2" => {
                Self::around(&[libm::log2(positive), libm::log2(f64::max(high, 0.0))]).wider(ERROR)
            }
            "log10" => Self::around(&[libm::log10(positive), libm::log10(f64::max(high, 0.0))])
                .wider(ERROR),
            "floor" | "ceil" | "round" => Self::new(low - 1.0, high + 1.0),
            _ => Self::EVERYTHING,
        }
    }

    /// What its argument must be in for a function to come to this.
    pub(super) fn uncalled(self, function: &str) -> Self {
        let Self { low, high } = self;
        match function {
            "abs" => Self::new(-high, high),
            "sqrt" => Self::around(&[
                libm::pow(f64::max(low, 0.0), 2.0),
                libm::pow(f64::max(high, 0.0), 2.0),
            ]),
            // Numbers without a logarithm come to none.
            "exp" if high > 0.0 => {
                Self::around(&[libm::log(f64::max(low, 0.0)), libm::log(high)]).wider(ERROR)
            }
            "log" => Self::around(&[libm::exp(low), libm::exp(high)]),
            "log2" => Self::around(&[libm::exp2(low), libm::exp2(high)]),
            "log10" => Self::around(&[libm::exp10(low), libm::exp10(high)]),
            "floor" | "ceil" | "round" => Self::new(low - 1.0, high + 1.0),
            _ => Self::EVERYTHING,
        }
    }

    /// Of two numbers the smaller or the larger.
    pub(super) fn of_two(function: &str, either: &[Self]) -> Self {
        let [a, b] = either else {
            return Self::EVERYTHING;
        };
        match function {
            "min" => Self::new(f64::min(a.low, b.low), f64::min(a.high, b.high)),
            _ => Self::new(f64::max(a.low, b.low), f64::max(a.high, b.high)),
        }
    }
}
