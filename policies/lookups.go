package policies

import (
	"errors"
	"fmt"
)

// CheckLookups has every lookup's SQL prepared, and lists those that cannot be.
func (s *Set) CheckLookups(prepare func(sql string) error) error {
	var problems []error
	for _, name := range sortedKeys(s.tables) {
		for _, rule := range s.tables[name].Rules {
			for _, l := range rule.Lookups {
				if err := prepare(l.SQL); err != nil {
					problems = append(problems, rule.place.in("lookup", l.Name).problem("%v", err))
				}
			}
		}
	}
	return errors.Join(inOrder(problems)...)
}

// String counts what the set has.
func (s *Set) String() string {
	rules := len(s.transaction) + len(s.code)
	for _, t := range s.tables {
		rules += len(t.Rules)
	}
	count := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	return count(len(s.tables), "table") + ", " + count(rules, "rule")
}
