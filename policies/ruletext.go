package policies

import "strings"

// RuleText returns the lines of a rule in its file, and file:line:column of it. The rule
// is known by its name, and by the clients' names of the tables that it may be of. The text
// is empty if the policies have no such rule, or have it in Go.
func (s *Set) RuleText(name string, tables []string) (position, text string) {
	rules := s.transaction
	for _, table := range tables {
		if policy, _ := s.table(table); policy != nil {
			rules = append(policy.Rules[:len(policy.Rules):len(policy.Rules)], rules...)
		}
	}
	for _, r := range rules {
		if r.Name == name {
			return r.Position(), r.text()
		}
	}
	return "", ""
}

// text is the rule's line and those below it that are indented deeper.
func (r *Rule) text() string {
	first, _ := start(r.place.find(true))
	lines := r.place.file.lines[first-1:]
	depth, end := indentation(lines[0]), 1
	for end < len(lines) && (strings.TrimSpace(lines[end]) == "" || indentation(lines[end]) > depth) {
		end++
	}
	return strings.TrimRight(strings.Join(lines[:end], "\n"), " \n")
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
