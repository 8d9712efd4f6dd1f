//! Hard constraints: expressions over hyperparameters that every configuration must meet.
//!
//! `units_1 >= units_2`, `layers * width <= 4096 and optimizer != 'sgd'`, `batch in [32, 64]`. Types are
//! checked once, against the domains; evaluation cannot fail. A constraint that names an inactive
//! hyperparameter does not apply to that configuration. Powers and logarithms are `libm`'s, so that a
//! configuration meets a constraint on every machine or on none.

use serde_json::Value;

use super::domain::{Domain, same_value};
use crate::spec::Params;
use crate::spec::error::near;

/// Longest expression, in bytes, and deepest nesting: what a person writes is far below.
const MAX_LENGTH: usize = 1_000;
const MAX_DEPTH: u32 = 32;

const FUNCTIONS: [(&str, usize); 11] = [
    ("abs", 1),
    ("sqrt", 1),
    ("exp", 1),
    ("log", 1),
    ("log2", 1),
    ("log10", 1),
    ("floor", 1),
    ("ceil", 1),
    ("round", 1),
    ("min", 2),
    ("max", 2),
];

/// One constraint, parsed and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    text: String,
    root: Node,
    /// Positions of the hyperparameters that it names.
    names: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Literal(Value),
    Parameter(usize),
    Not(Box<Node>),
    Negative(Box<Node>),
    Both(Box<Node>, Box<Node>),
    Either(Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Among(Box<Node>, Vec<Value>),
    Arithmetic(char, Box<Node>, Box<Node>),
    Call(&'static str, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    Different,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Number,
    Truth,
    Text,
    /// A categorical hyperparameter whose values are of several types.
    Mixed,
}

impl Type {
    fn of(value: &Value) -> Self {
        match value {
            Value::Number(_) => Self::Number,
            Value::Bool(_) => Self::Truth,
            Value::String(_) => Self::Text,
            _ => Self::Mixed,
        }
    }

    fn of_domain(domain: &Domain) -> Self {
        match domain {
            Domain::Double { .. } | Domain::Int { .. } => Self::Number,
            Domain::Const(value) => Self::of(value),
            Domain::Categorical(values) | Domain::Ordinal(values) => {
                let mut types = values.iter().map(Self::of);
                let first = types.next().unwrap_or(Self::Mixed);
                if types.all(|other| other == first) {
                    first
                } else {
                    Self::Mixed
                }
            }
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::Text => "text",
            Self::Mixed => "of several types",
        }
    }
}

impl Constraint {
    /// Parses an expression over these hyperparameters.
    ///
    /// # Errors
    /// What is wrong and what is accepted, in words.
    pub(super) fn new(text: &str, parameters: &[(&str, &Domain)]) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!(
                "{} characters; accepted are at most {MAX_LENGTH}",
                text.len()
            ));
        }
        let tokens = tokens(text)?;
        let mut parser = Parser {
            tokens,
            next: 0,
            depth: 0,
            parameters,
            names: Vec::new(),
        };
        let (root, kind) = parser.either()?;
        if let Some(token) = parser.peek() {
            return Err(format!("`{}` is not expected there", token.shown()));
        }
        if kind != Type::Truth {
            return Err(format!(
                "the whole is {}; accepted is what is true or false, such as `a <= b`",
                kind.word()
            ));
        }
        if parser.names.is_empty() {
            return Err("names no hyperparameter".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            root,
            names: parser.names,
        })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a configuration meets it. `name` gives a hyperparameter's name by its position.
    pub(super) fn holds<'a>(&self, params: &Params, name: impl Fn(usize) -> &'a str) -> bool {
        let value = |position: usize| params.get(name(position));
        if self.names.iter().any(|&position| value(position).is_none()) {
            return true;
        }
        truth(&self.root, &|position| {
            value(position).cloned().unwrap_or(Value::Null)
        })
    }
}

fn evaluate(node: &Node, value: &impl Fn(usize) -> Value) -> Value {
    match node {
        Node::Literal(literal) => literal.clone(),
        Node::Parameter(position) => value(*position),
        Node::Negative(_) | Node::Arithmetic(..) | Node::Call(..) => {
            serde_json::Number::from_f64(number(node, value)).map_or(Value::Null, Value::Number)
        }
        _ => Value::Bool(truth(node, value)),
    }
}

fn truth(node: &Node, value: &impl Fn(usize) -> Value) -> bool {
    match node {
        Node::Not(inner) => !truth(inner, value),
        Node::Both(a, b) => truth(a, value) && truth(b, value),
        Node::Either(a, b) => truth(a, value) || truth(b, value),
        Node::Compare(Comparison::Equal, a, b) => {
            same_value(&evaluate(a, value), &evaluate(b, value))
        }
        Node::Compare(Comparison::Different, a, b) => {
            !same_value(&evaluate(a, value), &evaluate(b, value))
        }
        Node::Compare(how, a, b) => {
            let (a, b) = (number(a, value), number(b, value));
            match how {
                Comparison::Less => a < b,
                Comparison::AtMost => a <= b,
                Comparison::Greater => a > b,
                _ => a >= b,
            }
        }
        Node::Among(inner, values) => {
            let inner = evaluate(inner, value);
            values.iter().any(|known| same_value(known, &inner))
        }
        _ => evaluate(node, value) == Value::Bool(true),
    }
}

/// Not a number where there is none, which meets no comparison.
fn number(node: &Node, value: &impl Fn(usize) -> Value) -> f64 {
    match node {
        Node::Negative(inner) => -number(inner, value),
        Node::Arithmetic(operator, a, b) => {
            let (a, b) = (number(a, value), number(b, value));
            match operator {
                '+' => a + b,
                '-' => a - b,
                '*' => a * b,
                '/' => a / b,
                '%' => a - b * libm::floor(a / b),
                _ => libm::pow(a, b),
            }
        }
        Node::Call(function, arguments) => {
            let argument = |at: usize| arguments.get(at).map_or(f64::NAN, |a| number(a, value));
            let x = argument(0);
            match *function {
                "abs" => x.abs(),
                "sqrt" => libm::sqrt(x),
                "exp" => libm::exp(x),
                "log" => libm::log(x),
                "log2" => libm::log2(x),
                "log10" => libm::log10(x),
                "floor" => libm::floor(x),
                "ceil" => libm::ceil(x),
                "round" => libm::round(x),
                "min" => f64::min(x, argument(1)),
                _ => f64::max(x, argument(1)),
            }
        }
        _ => evaluate(node, value).as_f64().unwrap_or(f64::NAN),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(f64),
    Text(String),
    Name(String),
    Sign(&'static str),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Number(x) => x.to_string(),
            Self::Text(text) => format!("'{text}'"),
            Self::Name(name) => name.clone(),
            Self::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// Longer ones before those that they begin with.
const SIGNS: [&str; 22] = [
    "**", "==", "!=", "<=", ">=", "&&", "||", "<", ">", "=", "!", "+", "-", "*", "/", "%", "^",
    "(", ")", "[", "]", ",",
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_digit() || first == '.' {
            let length = number_length(rest);
            let number: f64 = rest[..length]
                .parse()
                .map_err(|_| format!("`{}` is no number", &rest[..length]))?;
            found.push(Token::Number(number));
            length
        } else if first.is_ascii_alphabetic() || first == '_' {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let length = rest.find(|c| !fits(c)).unwrap_or(rest.len());
            found.push(Token::Name(rest[..length].to_owned()));
            length
        } else if matches!(first, '\'' | '"' | '`') {
            let end = rest[1..].find(first);
            let end = end.ok_or_else(|| format!("{first} is opened and not closed"))?;
            let inner = rest[1..=end].to_owned();
            found.push(if first == '`' {
                Token::Name(inner)
            } else {
                Token::Text(inner)
            });
            end + 2
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("`{first}` is not expected there"))?;
            found.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let exponent = |at: usize| at > 0 && matches!(bytes[at - 1], b'e' | b'E');
    (0..bytes.len())
        .find(|&at| match bytes[at] {
            b'0'..=b'9' | b'.' | b'e' | b'E' => false,
            b'+' | b'-' => !exponent(at),
            _ => true,
        })
        .unwrap_or(bytes.len())
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    depth: u32,
    parameters: &'a [(&'a str, &'a Domain)],
    names: Vec<usize>,
}

type Typed = (Node, Type);

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    /// Takes the next token if it is one of these signs or words.
    fn take(&mut self, words: &[&'static str]) -> Option<&'static str> {
        let found = match self.peek()? {
            Token::Sign(sign) => words.iter().find(|word| *word == sign),
            Token::Name(name) => words.iter().find(|word| *word == name),
            _ => None,
        }?;
        self.next += 1;
        Some(found)
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), String> {
        let found = self.take(&[sign]).is_some();
        found.then_some(()).ok_or_else(|| match self.peek() {
            Some(token) => format!("`{sign}` expected where `{}` stands", token.shown()),
            None => format!("`{sign}` expected at the end"),
        })
    }

    fn either(&mut self) -> Result<Typed, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        let mut left = self.both()?;
        while let Some(word) = self.take(&["or", "||"]) {
            let right = self.both()?;
            expect_type(word, left.1, Type::Truth)?;
            expect_type(word, right.1, Type::Truth)?;
            left.0 = Node::Either(Box::new(left.0), Box::new(right.0));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn both(&mut self) -> Result<Typed, String> {
        let mut left = self.negated()?;
        while let Some(word) = self.take(&["and", "&&"]) {
            let right = self.negated()?;
            expect_type(word, left.1, Type::Truth)?;
            expect_type(word, right.1, Type::Truth)?;
            left.0 = Node::Both(Box::new(left.0), Box::new(right.0));
        }
        Ok(left)
    }

    fn negated(&mut self) -> Result<Typed, String> {
        let mut negated = false;
        while self.take(&["not", "!"]).is_some() {
            negated = !negated;
        }
        let inner = self.comparison()?;
        if negated {
            expect_type("not", inner.1, Type::Truth)?;
            return Ok((Node::Not(Box::new(inner.0)), Type::Truth));
        }
        Ok(inner)
    }

    /// `a < b`, also in chains: `1 < a <= b`.
    fn comparison(&mut self) -> Result<Typed, String> {
        let mut left = self.sum()?;
        let mut whole: Option<Node> = None;
        loop {
            let node = if let Some(sign) = self.take(&["==", "=", "!=", "<", "<=", ">", ">="]) {
                let right = self.sum()?;
                let how = compare(sign, left.1, right.1)?;
                let node = Node::Compare(how, Box::new(left.0), Box::new(right.0.clone()));
                left = right;
                node
            } else if self.take(&["in"]).is_some() {
                let node = self.among(&left)?;
                left = (Node::Literal(Value::Bool(true)), Type::Truth);
                node
            } else if matches!((self.peek(), self.tokens.get(self.next + 1)),
                (Some(Token::Name(not)), Some(Token::Name(is_in))) if not == "not" && is_in == "in")
            {
                self.next += 2;
                let node = Node::Not(Box::new(self.among(&left)?));
                left = (Node::Literal(Value::Bool(true)), Type::Truth);
                node
            } else {
                return Ok(whole.map_or(left, |whole| (whole, Type::Truth)));
            };
            whole = Some(match whole {
                Some(whole) => Node::Both(Box::new(whole), Box::new(node)),
                None => node,
            });
        }
    }

    fn among(&mut self, left: &Typed) -> Result<Node, String> {
        self.expect("[")?;
        let mut values = Vec::new();
        loop {
            let negative = self.take(&["-"]).is_some();
            let value = match self.tokens.get(self.next) {
                Some(Token::Number(x)) => literal(if negative { -x } else { *x }),
                Some(Token::Text(text)) if !negative => Value::String(text.clone()),
                Some(Token::Name(word)) if !negative && (word == "true" || word == "false") => {
                    Value::Bool(word == "true")
                }
                _ => return Err("`in` needs a list of values, such as `[1, 2]`".to_owned()),
            };
            let kind = Type::of(&value);
            if left.1 != Type::Mixed && kind != left.1 {
                return Err(format!(
                    "{value} is never among the values of what is {}",
                    left.1.word()
                ));
            }
            values.push(value);
            self.next += 1;
            if self.take(&[","]).is_none() {
                self.expect("]")?;
                return Ok(Node::Among(Box::new(left.0.clone()), values));
            }
        }
    }

    fn sum(&mut self) -> Result<Typed, String> {
        let mut left = self.product()?;
        while let Some(sign) = self.take(&["+", "-"]) {
            let right = self.product()?;
            left = arithmetic(sign, left, right)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Typed, String> {
        let mut left = self.signed()?;
        while let Some(sign) = self.take(&["*", "/", "%"]) {
            let right = self.signed()?;
            left = arithmetic(sign, left, right)?;
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Typed, String> {
        let mut negative = false;
        while self.take(&["-"]).is_some() {
            negative = !negative;
        }
        let inner = self.power()?;
        if negative {
            expect_type("-", inner.1, Type::Number)?;
            return Ok((Node::Negative(Box::new(inner.0)), Type::Number));
        }
        Ok(inner)
    }

    /// `-a ** 2` is -(a²); the exponent may be negative.
    fn power(&mut self) -> Result<Typed, String> {
        let base = self.atom()?;
        if self.take(&["**", "^"]).is_none() {
            return Ok(base);
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        let exponent = self.signed()?;
        self.depth -= 1;
        arithmetic("^", base, exponent)
    }

    fn atom(&mut self) -> Result<Typed, String> {
        let Some(token) = self.peek().cloned() else {
            return Err("ends where a value is expected".to_owned());
        };
        self.next += 1;
        match token {
            Token::Number(x) => Ok((Node::Literal(literal(x)), Type::Number)),
            Token::Text(text) => Ok((Node::Literal(Value::String(text)), Type::Text)),
            Token::Sign("(") => {
                let inner = self.either()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign(sign) => Err(format!("`{sign}` stands where a value is expected")),
            Token::Name(name) if self.take(&["("]).is_some() => self.call(&name),
            Token::Name(name) => self.parameter(&name),
        }
    }

    fn parameter(&mut self, name: &str) -> Result<Typed, String> {
        let names = || self.parameters.iter().map(|(known, _)| *known);
        if let Some(position) = names().position(|known| known == name) {
            if !self.names.contains(&position) {
                self.names.push(position);
            }
            let kind = Type::of_domain(self.parameters[position].1);
            return Ok((Node::Parameter(position), kind));
        }
        if name == "true" || name == "false" {
            return Ok((Node::Literal(Value::Bool(name == "true")), Type::Truth));
        }
        let hint = near(name, names()).map(|word| format!("; did you mean `{word}`?"));
        let hint = hint.unwrap_or_else(|| "; text stands in quotes".to_owned());
        Err(format!("there is no hyperparameter `{name}`{hint}"))
    }

    fn call(&mut self, name: &str) -> Result<Typed, String> {
        let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
        let Some((function, count)) = known else {
            let all: Vec<&str> = FUNCTIONS.iter().map(|(known, _)| *known).collect();
            let all = all.join(", ");
            return Err(format!("there is no function `{name}`; accepted are {all}"));
        };
        let mut arguments = Vec::new();
        loop {
            let (node, kind) = self.either()?;
            expect_type(name, kind, Type::Number)?;
            arguments.push(node);
            if self.take(&[","]).is_none() {
                break;
            }
        }
        self.expect(")")?;
        if arguments.len() != *count {
            return Err(format!(
                "`{name}` takes {count} argument(s), {} given",
                arguments.len()
            ));
        }
        Ok((Node::Call(function, arguments), Type::Number))
    }
}

fn literal(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or(Value::Null, Value::Number)
}

fn compare(sign: &str, left: Type, right: Type) -> Result<Comparison, String> {
    let how = match sign {
        "==" | "=" => Comparison::Equal,
        "!=" => Comparison::Different,
        "<" => Comparison::Less,
        "<=" => Comparison::AtMost,
        ">" => Comparison::Greater,
        _ => Comparison::AtLeast,
    };
    if matches!(how, Comparison::Equal | Comparison::Different) {
        if left != right && left != Type::Mixed && right != Type::Mixed {
            return Err(format!(
                "`{sign}` compares what is {} with what is {}",
                left.word(),
                right.word()
            ));
        }
    } else {
        expect_type(sign, left, Type::Number)?;
        expect_type(sign, right, Type::Number)?;
    }
    Ok(how)
}

fn arithmetic(sign: &'static str, left: Typed, right: Typed) -> Result<Typed, String> {
    expect_type(sign, left.1, Type::Number)?;
    expect_type(sign, right.1, Type::Number)?;
    let operator = sign.chars().next().unwrap_or('^');
    let node = Node::Arithmetic(operator, Box::new(left.0), Box::new(right.0));
    Ok((node, Type::Number))
}

fn expect_type(of: &str, given: Type, wanted: Type) -> Result<(), String> {
    if given == wanted {
        return Ok(());
    }
    let (wanted, given) = (wanted.word(), given.word());
    Err(format!(
        "`{of}` needs what is {wanted}, and was given what is {given}"
    ))
}
