// Package lexer reads SQL text as far as a proxy has to understand it: what kind
// of statement it is, and which words in it leave something behind in the
// session that the server does not report. It knows comments, quotes and names;
// it knows no grammar.
//
// It may take a harmless statement for a harmful one. It must not do the
// opposite: a word in code is always seen, a word in a string or a comment never
// counts.
//
// Look allocates nothing.
package lexer
