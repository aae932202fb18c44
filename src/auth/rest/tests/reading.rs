//! A second parser, as wide as PostgREST's own grammar: spaces, quotes, dashes and letters of any
//! script, `;` between pairs, malformed escapes. Written from the documentation and grammar of
//! PostgREST, independently of the layer's parser.

use std::collections::BTreeSet;

/// The columns of each table that a query uses. `None` if PostgREST would refuse it.
pub(super) fn touched(table: &str, query: &str) -> Option<BTreeSet<(String, String)>> {
    let pairs: Vec<(String, Option<String>)> = query
        .split(['&', ';'])
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (decode(name), Some(decode(value))),
            None => (decode(pair), None),
        })
        .collect();
    let select = pairs
        .iter()
        .find(|(name, _)| name == "select")
        .and_then(|(_, value)| value.clone())
        .unwrap_or_else(|| "*".to_owned());
    let mut reader = Reader::new(&select);
    let tree = reader.forest()?;
    reader.at_end()?;
    let mut touched = BTreeSet::new();
    show(table, &tree, &mut touched);
    for (name, value) in &pairs {
        let Some(value) = value else { continue };
        let last = name.rsplit('.').next().unwrap_or_default();
        match (name.as_str(), last) {
            ("select" | "columns" | "on_conflict" | "apikey", _) | (_, "limit" | "offset") => {}
            (_, "order") => {
                let path = path(name)?;
                let table = find(table, &tree, &path[..path.len() - 1])?;
                let mut reader = Reader::new(value);
                loop {
                    let (relation, column) = reader.order()?;
                    let table = match relation {
                        Some(relation) => find(&table.0, table.1, &[relation])?.0,
                        None => table.0.clone(),
                    };
                    touched.insert((table, column));
                    if !reader.lexeme(',') {
                        break;
                    }
                }
                reader.at_end()?;
            }
            (_, "and" | "or") => {
                let mut path = path(name)?;
                path.pop();
                path.retain(|name| name != "not");
                let table = find(table, &tree, &path)?.0;
                let mut reader = Reader::new(value);
                let mut columns = Vec::new();
                reader.brackets(&mut columns)?;
                reader.at_end()?;
                touched.extend(columns.into_iter().map(|column| (table.clone(), column)));
            }
            _ => {
                let mut reader = Reader::new(name);
                let mut names = vec![reader.field_name()?];
                while reader.char('.') {
                    names.push(reader.field_name()?);
                }
                reader.json_path();
                reader.at_end()?;
                let column = names.pop()?;
                let table = find(table, &tree, &names)?.0;
                let mut value = Reader::new(value);
                value.operator()?;
                touched.insert((table, column));
            }
        }
    }
    Some(touched)
}

enum Node {
    Column(String),
    Relation {
        name: String,
        alias: Option<String>,
        nodes: Vec<Node>,
    },
}

fn show(table: &str, nodes: &[Node], touched: &mut BTreeSet<(String, String)>) {
    for node in nodes {
        match node {
            Node::Column(name) => {
                touched.insert((table.to_owned(), name.clone()));
            }
            Node::Relation { name, nodes, .. } => {
                touched.insert((name.clone(), "count()".to_owned()));
                show(name, nodes, touched);
            }
        }
    }
}

fn find<'n>(table: &str, nodes: &'n [Node], path: &[String]) -> Option<(String, &'n [Node])> {
    let Some((first, rest)) = path.split_first() else {
        return Some((table.to_owned(), nodes));
    };
    nodes.iter().find_map(|node| match node {
        Node::Relation { name, alias, nodes } if name == first || alias.as_ref() == Some(first) => {
            find(name, nodes, rest)
        }
        _ => None,
    })
}

fn path(key: &str) -> Option<Vec<String>> {
    let mut reader = Reader::new(key);
    let mut names = vec![reader.field_name()?];
    while reader.char('.') {
        names.push(reader.field_name()?);
    }
    reader.at_end()?;
    Some(names)
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (hex, bytes[at]) {
            (Some(byte), _) => {
                decoded.push(byte);
                at += 2;
            }
            (None, b'+') => decoded.push(b' '),
            (None, byte) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

struct Reader {
    letters: Vec<char>,
    at: usize,
}

impl Reader {
    fn new(text: &str) -> Self {
        Self {
            letters: text.chars().collect(),
            at: 0,
        }
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn at_end(&self) -> Option<()> {
        (self.at == self.letters.len()).then_some(())
    }

    fn char(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn text(&mut self, wanted: &str) -> bool {
        let from = self.at;
        let found = wanted.chars().all(|letter| self.char(letter));
        if !found {
            self.at = from;
        }
        found
    }

    fn blanks(&mut self) {
        while self.char(' ') || self.char('\t') {}
    }

    fn lexeme(&mut self, wanted: char) -> bool {
        let from = self.at;
        self.blanks();
        if self.char(wanted) {
            self.blanks();
            return true;
        }
        self.at = from;
        false
    }

    fn identifier(&mut self) -> Option<String> {
        let from = self.at;
        while self
            .peek()
            .is_some_and(|c| c.is_alphanumeric() || "_ $".contains(c))
        {
            self.at += 1;
        }
        let text: String = self.letters[from..self.at].iter().collect();
        (self.at > from).then(|| text.trim().to_owned())
    }

    fn quoted(&mut self) -> Option<String> {
        let from = self.at;
        if !self.char('"') {
            return None;
        }
        let mut text = String::new();
        while let Some(letter) = self.peek() {
            self.at += 1;
            match letter {
                '"' => return Some(text),
                '\\' => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                letter => text.push(letter),
            }
        }
        self.at = from;
        None
    }

    fn field_name(&mut self) -> Option<String> {
        if let Some(name) = self.quoted() {
            return Some(name);
        }
        let mut name = self.identifier()?;
        while self.peek() == Some('-') && self.letters.get(self.at + 1) != Some(&'>') {
            self.at += 1;
            name = format!("{name}-{}", self.identifier()?);
        }
        Some(name)
    }

    fn json_path(&mut self) {
        while self.text("->>") || self.text("->") {
            self.char('-');
            let _ = self.field_name();
        }
    }

    fn forest(&mut self) -> Option<Vec<Node>> {
        let mut nodes = Vec::new();
        if self.at_end().is_some() || self.peek() == Some(')') {
            return Some(nodes);
        }
        loop {
            nodes.push(self.node()?);
            if !self.lexeme(',') {
                return Some(nodes);
            }
        }
    }

    fn node(&mut self) -> Option<Node> {
        let from = self.at;
        if let Some(node) = self.relation() {
            return Some(node);
        }
        self.at = from;
        self.blanks();
        if self.char('*') {
            return Some(Node::Column("*".to_owned()));
        }
        let begun = self.at;
        let first = self.field_name()?;
        let aliased = self.peek() == Some(':') && self.letters.get(self.at + 1) != Some(&':');
        let name = if aliased {
            self.at += 1;
            self.field_name()?
        } else {
            self.at = begun;
            self.field_name()?;
            first
        };
        if name == "count" && self.text("()") {
            self.cast();
            return Some(Node::Column("count()".to_owned()));
        }
        self.json_path();
        self.cast();
        if self.char('.') {
            self.identifier()?;
            self.text("()").then_some(())?;
            self.cast();
        }
        self.blanks();
        Some(Node::Column(name))
    }

    fn cast(&mut self) {
        if self.text("::") {
            let _ = self.identifier();
        }
    }

    fn relation(&mut self) -> Option<Node> {
        self.blanks();
        let spread = self.text("...");
        let mut name = self.field_name()?;
        let mut alias = None;
        if !spread && self.peek() == Some(':') && self.letters.get(self.at + 1) != Some(&':') {
            self.at += 1;
            alias = Some(std::mem::replace(&mut name, self.field_name()?));
        }
        if name == "count" {
            return None;
        }
        while self.char('!') {
            self.field_name()?;
        }
        self.lexeme('(').then_some(())?;
        let nodes = self.forest()?;
        self.lexeme(')').then_some(())?;
        Some(Node::Relation { name, alias, nodes })
    }

    fn order(&mut self) -> Option<(Option<String>, String)> {
        self.blanks();
        let mut name = self.field_name()?;
        let mut relation = None;
        if self.char('(') {
            relation = Some(std::mem::replace(&mut name, self.field_name()?));
            self.json_path();
            self.char(')').then_some(())?;
        } else {
            self.json_path();
        }
        for word in [".asc", ".desc", ".nullsfirst", ".nullslast"] {
            let _ = self.text(word);
        }
        self.blanks();
        Some((relation, name))
    }

    fn operator(&mut self) -> Option<String> {
        let _ = self.text("not.");
        let from = self.at;
        while self.peek().is_some_and(char::is_alphanumeric) {
            self.at += 1;
        }
        let name: String = self.letters[from..self.at].iter().collect();
        if self.char('(') {
            while self.peek().is_some_and(|c| c != ')') {
                self.at += 1;
            }
            self.char(')');
        }
        (!name.is_empty() && self.char('.')).then_some(name)
    }

    /// `(…)` with conditions in it.
    fn brackets(&mut self, columns: &mut Vec<String>) -> Option<()> {
        self.lexeme('(').then_some(())?;
        loop {
            self.condition(columns)?;
            if !self.lexeme(',') {
                break;
            }
        }
        self.lexeme(')').then_some(())
    }

    fn condition(&mut self, columns: &mut Vec<String>) -> Option<()> {
        let (from, known) = (self.at, columns.len());
        self.blanks();
        let filter = |reader: &mut Self| {
            let name = reader.field_name()?;
            reader.json_path();
            reader.char('.').then_some(())?;
            let operator = reader.operator()?;
            reader.value(&operator)?;
            Some(name)
        };
        if let Some(name) = filter(self) {
            columns.push(name);
            return Some(());
        }
        self.at = from;
        columns.truncate(known);
        self.blanks();
        let _ = self.text("not.");
        (self.text("and") || self.text("or")).then_some(())?;
        self.brackets(columns)
    }

    fn value(&mut self, operator: &str) -> Option<()> {
        if operator == "in" {
            self.lexeme('(').then_some(())?;
            loop {
                self.single();
                if !self.char(',') {
                    break;
                }
            }
            return self.lexeme(')').then_some(());
        }
        self.single();
        Some(())
    }

    fn single(&mut self) {
        let from = self.at;
        if self.quoted().is_some() && matches!(self.peek(), None | Some(',' | ')')) {
            return;
        }
        self.at = from;
        if self.char('{') {
            while self.peek().is_some_and(|c| !"{}".contains(c)) {
                self.at += 1;
            }
            if self.char('}') {
                return;
            }
            self.at = from;
        }
        while self.peek().is_some_and(|c| c != ',' && c != ')') {
            self.at += 1;
        }
    }
}
