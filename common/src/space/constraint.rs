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

/// Most nodes: each stands for at least one byte of the expression, so that its length bounds the work and the
/// stack of an evaluation.
const MAX_NODES: usize = MAX_LENGTH;

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
    /// `1 < a <= b`: each operand stands once, however many comparisons it is part of.
    Chain(Box<Node>, Vec<Link>),
    Arithmetic(char, Box<Node>, Box<Node>),
    Call(&'static str, Vec<Node>),
}

/// What a chain asks of the operand before it.
#[derive(Debug, Clone, PartialEq)]
enum Link {
    Compare(Comparison, Node),
    /// Whether it is one of these, or none of them; what follows compares with true.
    Among {
        values: Vec<Value>,
        wanted: bool,
    },
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
            nodes: 0,
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
        truth(&self.root, &|position| value(position).unwrap_or(&NOTHING))
    }
}

/// The value of a hyperparameter that a configuration does not have.
static NOTHING: Value = Value::Null;

/// What a node comes to.
#[derive(Clone, Copy)]
enum Found<'a> {
    Value(&'a Value),
    Truth(bool),
    /// Of arithmetic; not a number where there is none, which meets no comparison of size.
    Number(f64),
}

impl Found<'_> {
    fn number(self) -> f64 {
        match self {
            Self::Number(x) => x,
            Self::Value(value) => value.as_f64().unwrap_or(f64::NAN),
            Self::Truth(_) => f64::NAN,
        }
    }

    fn is_true(self) -> bool {
        match self {
            Self::Truth(truth) => truth,
            Self::Value(value) => *value == Value::Bool(true),
            Self::Number(_) => false,
        }
    }

    /// What arithmetic cannot give is no value, and one such is as good as another.
    fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => same_value(a, b),
            (a, b) => same_value(&a.value(), &b.value()),
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Truth(truth) => Value::Bool(truth),
            Self::Number(x) => literal(x),
        }
    }
}

fn evaluate<'a>(node: &'a Node, value: &impl Fn(usize) -> &'a Value) -> Found<'a> {
    match node {
        Node::Literal(literal) => Found::Value(literal),
        Node::Parameter(position) => Found::Value(value(*position)),
        Node::Negative(_) | Node::Arithmetic(..) | Node::Call(..) => {
            Found::Number(number(node, value))
        }
        Node::Not(_) | Node::Both(..) | Node::Either(..) | Node::Chain(..) => {
            Found::Truth(truth(node, value))
        }
    }
}

fn truth<'a>(node: &'a Node, value: &impl Fn(usize) -> &'a Value) -> bool {
    match node {
        Node::Not(inner) => !truth(inner, value),
        Node::Both(a, b) => truth(a, value) && truth(b, value),
        Node::Either(a, b) => truth(a, value) || truth(b, value),
        Node::Chain(first, links) => {
            let mut left = evaluate(first, value);
            links.iter().all(|link| match link {
                Link::Compare(how, right) => {
                    let right = evaluate(right, value);
                    let holds = how.holds(left, right);
                    left = right;
                    holds
                }
                Link::Among { values, wanted } => {
                    let found = values.iter().any(|known| left.is_same(Found::Value(known)));
                    left = Found::Truth(true);
                    found == *wanted
                }
            })
        }
        _ => evaluate(node, value).is_true(),
    }
}

impl Comparison {
    fn holds(self, left: Found<'_>, right: Found<'_>) -> bool {
        let (a, b) = (left.number(), right.number());
        match self {
            Self::Equal => left.is_same(right),
            Self::Different => !left.is_same(right),
            Self::Less => a < b,
            Self::AtMost => a <= b,
            Self::Greater => a > b,
            Self::AtLeast => a >= b,
        }
    }
}

fn number<'a>(node: &'a Node, value: &impl Fn(usize) -> &'a Value) -> f64 {
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
        _ => evaluate(node, value).number(),
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
    nodes: usize,
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
            left.0 = self.node(Node::Either(Box::new(left.0), Box::new(right.0)))?;
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
            left.0 = self.node(Node::Both(Box::new(left.0), Box::new(right.0)))?;
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
            return Ok((self.node(Node::Not(Box::new(inner.0)))?, Type::Truth));
        }
        Ok(inner)
    }

    /// `a < b`, also in chains: `1 < a <= b`.
    fn comparison(&mut self) -> Result<Typed, String> {
        let (first, mut left) = self.sum()?;
        let mut links = Vec::new();
        loop {
            if let Some(sign) = self.take(&["==", "=", "!=", "<", "<=", ">", ">="]) {
                let (right, kind) = self.sum()?;
                links.push(Link::Compare(compare(sign, left, kind)?, right));
                left = kind;
            } else if self.take(&["in"]).is_some() {
                links.push(self.among(left, true)?);
                left = Type::Truth;
            } else if matches!((self.peek(), self.tokens.get(self.next + 1)),
                (Some(Token::Name(not)), Some(Token::Name(is_in))) if not == "not" && is_in == "in")
            {
                self.next += 2;
                links.push(self.among(left, false)?);
                left = Type::Truth;
            } else if links.is_empty() {
                return Ok((first, left));
            } else {
                let chain = self.node(Node::Chain(Box::new(first), links))?;
                return Ok((chain, Type::Truth));
            }
        }
    }

    fn among(&mut self, left: Type, wanted: bool) -> Result<Link, String> {
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
            if left != Type::Mixed && kind != left {
                return Err(format!(
                    "{value} is never among the values of what is {}",
                    left.word()
                ));
            }
            values.push(value);
            self.next += 1;
            if self.take(&[","]).is_none() {
                self.expect("]")?;
                return Ok(Link::Among { values, wanted });
            }
        }
    }

    /// Every node is made here and counted.
    fn node(&mut self, node: Node) -> Result<Node, String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} parts"));
        }
        Ok(node)
    }

    fn sum(&mut self) -> Result<Typed, String> {
        let mut left = self.product()?;
        while let Some(sign) = self.take(&["+", "-"]) {
            let right = self.product()?;
            left = self.arithmetic(sign, left, right)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Typed, String> {
        let mut left = self.signed()?;
        while let Some(sign) = self.take(&["*", "/", "%"]) {
            let right = self.signed()?;
            left = self.arithmetic(sign, left, right)?;
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
            return Ok((self.node(Node::Negative(Box::new(inner.0)))?, Type::Number));
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
        self.arithmetic("^", base, exponent)
    }

    fn atom(&mut self) -> Result<Typed, String> {
        let Some(token) = self.peek().cloned() else {
            return Err("ends where a value is expected".to_owned());
        };
        self.next += 1;
        match token {
            Token::Number(x) => Ok((self.node(Node::Literal(literal(x)))?, Type::Number)),
            Token::Text(text) => Ok((self.node(Node::Literal(Value::String(text)))?, Type::Text)),
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
            return Ok((self.node(Node::Parameter(position))?, kind));
        }
        if name == "true" || name == "false" {
            let literal = Node::Literal(Value::Bool(name == "true"));
            return Ok((self.node(literal)?, Type::Truth));
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
        Ok((self.node(Node::Call(function, arguments))?, Type::Number))
    }

    fn arithmetic(&mut self, sign: &str, left: Typed, right: Typed) -> Result<Typed, String> {
        expect_type(sign, left.1, Type::Number)?;
        expect_type(sign, right.1, Type::Number)?;
        let operator = sign.chars().next().unwrap_or('^');
        let node = Node::Arithmetic(operator, Box::new(left.0), Box::new(right.0));
        Ok((self.node(node)?, Type::Number))
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

fn expect_type(of: &str, given: Type, wanted: Type) -> Result<(), String> {
    if given == wanted {
        return Ok(());
    }
    let (wanted, given) = (wanted.word(), given.word());
    Err(format!(
        "`{of}` needs what is {wanted}, and was given what is {given}"
    ))
}
