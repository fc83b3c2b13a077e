//! A cursor over octets that the HSM drew in one large call: every record takes its share, nothing is used twice.

use super::PersonaliseError;

/// Random octets drawn beforehand. Randomness is an argument, so a batch can be replayed octet by octet in a test.
pub struct Draw<'a> {
    rest: &'a [u8],
}

impl<'a> Draw<'a> {
    /// Over drawn octets; the caller keeps and wipes the buffer.
    pub fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// The next `N` octets.
    pub fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], PersonaliseError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.short(N))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `len` octets.
    pub fn take_slice(&mut self, len: usize) -> Result<&'a [u8], PersonaliseError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.short(len))?;
        self.rest = rest;
        Ok(head)
    }

    /// Octets not taken yet.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    fn short(&self, asked: usize) -> PersonaliseError {
        PersonaliseError::DrawTooShort { asked, left: self.rest.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_handed_out_once_and_then_refused() {
        let mut draw = Draw::new(&[1, 2, 3, 4, 5]);
        assert_eq!(draw.take::<2>().unwrap(), &[1, 2]);
        assert_eq!(draw.take_slice(2).unwrap(), &[3, 4]);
        assert_eq!(draw.take::<2>().unwrap_err(), PersonaliseError::DrawTooShort { asked: 2, left: 1 });
        assert_eq!(draw.left(), 1);
    }
}
