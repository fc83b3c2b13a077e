//! `bindery run`: prepare, bind and export what is due.
