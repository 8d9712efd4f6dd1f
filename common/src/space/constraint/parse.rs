//! From the words of an expression to its tree, with types checked against the domains.

use serde_json::Value;

use super::tokens::{Token, tokens};
use super::{Comparison, Link, MAX_LENGTH, Node, Type, literal};
use crate::space::domain::Domain;
use crate::spec::error::near;

/// Deepest nesting: what a person writes is far below.
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

/// The tree of an expression, its type, and the positions of the hyperparameters that it names.
pub(super) fn parse(
    text: &str,
    parameters: &[(&str, &Domain)],
) -> Result<(Node, Type, Vec<usize>), String> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
        nodes: 0,
        parameters,
        names: Vec::new(),
    };
    let (root, kind) = parser.either()?;
    match parser.peek() {
        Some(token) => Err(format!("`{}` is not expected there", token.shown())),
        None => Ok((root, kind, parser.names)),
    }
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
