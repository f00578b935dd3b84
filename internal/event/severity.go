package event

import (
	"fmt"
	"slices"
)

// Severity says who should care, and how soon.
type Severity string

// Severities, in rising order.
const (
	Info     Severity = "info"     // for the record
	Warning  Severity = "warning"  // somebody should look today
	Critical Severity = "critical" // somebody should be woken
)

// Severities are all of them, in rising order.
var Severities = []Severity{Info, Warning, Critical}

// AtLeast tells whether s is as severe as t. Everything is at least "".
func (s Severity) AtLeast(t Severity) bool {
	return slices.Index(Severities, s) >= slices.Index(Severities, t)
}

// Check refuses a word that is no severity.
func (s Severity) Check() error {
	if s != "" && !slices.Contains(Severities, s) {
		return fmt.Errorf("%q is none of info, warning, critical", string(s))
	}
	return nil
}
