//! The arithmetic of `define-eval` (fw-format §19.4).

/// Operands of an expression, as in the reference; a parenthesis counts as one.
const ITEMS_MAX: usize = 16;
/// Parentheses, signs and powers within each other: more than the reference's stacks hold.
const DEPTH_MAX: usize = 32;

/// Suffixes and what they multiply by; the longer of two that begin alike stands first.
const SUFFIXES: [(&str, i64); 9] = [
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("c", 1),
    ("w", 2),
    ("b", 512),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
];

/// Evaluates an expression in 64-bit signed arithmetic. What does not fit is an error.
pub(super) fn evaluate(text: &str) -> Result<i64, String> {
    let mut expression = Expression { rest: text, operands: 0 };
    let value = expression.sum(0);
    match value {
        Some(value) if expression.peek().is_none() => Ok(value),
        _ => Err(format!("error evaluating '{text}'")),
    }
}

struct Expression<'a> {
    rest: &'a str,
    operands: usize,
}

impl Expression<'_> {
    fn sum(&mut self, depth: usize) -> Option<i64> {
        let mut value = self.product(depth)?;
        while let Some(operator) = self.operator(&['+', '-']) {
            let right = self.product(depth)?;
            value = if operator == '+' { value.checked_add(right)? } else { value.checked_sub(right)? };
        }
        Some(value)
    }

    fn product(&mut self, depth: usize) -> Option<i64> {
        let mut value = self.power(depth)?;
        while let Some(operator) = self.operator(&['*', '/']) {
            let right = self.power(depth)?;
            value = if operator == '*' { value.checked_mul(right)? } else { value.checked_div(right)? };
        }
        Some(value)
    }

    /// Reads a sign or a power, which bind alike: `-2 ^ 2` is -4.
    fn power(&mut self, depth: usize) -> Option<i64> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.operator(&['-']).is_some() {
            return self.power(depth + 1)?.checked_neg();
        }
        let base = self.operand(depth)?;
        if self.operator(&['^']).is_none() {
            return Some(base);
        }
        let exponent = u32::try_from(self.power(depth + 1)?).ok().filter(|exponent| *exponent < 64)?;
        base.checked_pow(exponent)
    }

    fn operand(&mut self, depth: usize) -> Option<i64> {
        self.operands += 1;
        if self.operands > ITEMS_MAX {
            return None;
        }
        if self.peek()? == '(' {
            self.advance();
            let value = self.sum(depth + 1)?;
            return (self.peek()? == ')').then(|| {
                self.advance();
                value
            });
        }
        if !self.peek()?.is_ascii_digit() {
            return None;
        }
        let (value, rest, fits) = super::number::parse(self.rest);
        self.rest = rest;
        if !fits {
            return None;
        }
        for (suffix, factor) in SUFFIXES {
            if let Some(rest) = self.rest.strip_prefix(suffix) {
                self.rest = rest;
                return value.checked_mul(factor);
            }
        }
        Some(value)
    }

    /// Takes one of the operators if it comes next.
    fn operator(&mut self, wanted: &[char]) -> Option<char> {
        let next = self.peek().filter(|next| wanted.contains(next))?;
        self.advance();
        Some(next)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn advance(&mut self) {
        let mut characters = self.rest.chars();
        characters.next();
        self.rest = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::evaluate;

    #[test]
    fn follows_the_reference() {
        for (text, value) in [
            ("1 + 2 * 3", 7),
            ("(1 + 2) * 3", 9),
            ("-2 ^ 2", -4),
            ("2 ^ 3 ^ 2", 512),
            ("7 / -2", -3),
            ("010 + 0x10", 24),
            ("2K + 1kB + 3b", 2048 + 1000 + 1536),
            ("1 - -1", 2),
        ] {
            assert_eq!(evaluate(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_expression() {
        for text in
            ["", "1 + ", "1 / 0", "1 % 2", "(1 + 2", "val", "2 ^ 64", "9223372036854775807 + 1", "1 2"]
        {
            assert_eq!(evaluate(text), Err(format!("error evaluating '{text}'")));
        }
        assert!(evaluate(&"(".repeat(100_000)).is_err());
        assert!(evaluate(&"-".repeat(100_000)).is_err());
    }
}
