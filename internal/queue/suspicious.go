package queue

import libinjection "github.com/corazawaf/libinjection-go"

// suspicious refuses text that looks like an attempt at SQL or script. Bound
// values cannot become SQL here; what reads the table later, or shows it in a
// page, may be less careful. Such detection errs both ways, so a parameter can
// be declared free of it.
func suspicious(s string) *Problem {
	if len(s) < 3 {
		return nil
	}
	if found, print := libinjection.IsSQLi(s); found {
		return &Problem{
			Kind: "suspicious-text", Status: 422,
			Detail: "the text looks like an attempt at SQL injection (" + print + ")",
			Hint:   "if this is honest text, declare the parameter with free: true",
		}
	}
	if libinjection.IsXSS(s) {
		return &Problem{
			Kind: "suspicious-text", Status: 422,
			Detail: "the text looks like a script",
			Hint:   "if this is honest text, declare the parameter with free: true",
		}
	}
	return nil
}
