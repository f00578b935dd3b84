// Package arch holds the walls of the house: which package lies on which
// floor, who may know which library, that test code stays out of the binary,
// and that the reference pages in docs say what the program says.
//
// It has only tests. Each asks the go command or the program itself, so there
// is nothing to keep in step by hand but the lists:
//
//   - floors_test.go: every package and its floor; a new package is put there
//   - walls_test.go: every library and the packages that may import it
package arch
