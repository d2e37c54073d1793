package policies

import (
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// Codes lists the codes that the policy files give to rejections. Rules in Go may have
// others; HasCode says whether there are such rules.
func (l *Live) Codes() []string { return l.source.values("code") }

// RuleNames lists the names of all rules, those in Go among them.
func (l *Live) RuleNames() []string {
	names := l.source.values("name")
	for _, r := range l.code {
		names = append(names, r.Name)
	}
	return names
}

// HasCode reports whether there are rules in Go.
func (l *Live) HasCode() bool { return len(l.code) > 0 }

// values lists the texts that a key has anywhere in the files.
func (s *Source) values(key string) (texts []string) {
	for i := range s.files {
		if s.files[i].at == nil {
			continue
		}
		for _, node := range ast.Filter(ast.MappingValueType, s.files[i].at) {
			pair := node.(*ast.MappingValueNode)
			if text, ok := pair.Value.(*ast.StringNode); ok && pair.Key.GetToken().Value == key {
				texts = append(texts, text.Value)
			}
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// Tables lists the clients' names of the tables that policies name.
func (s *Set) Tables() []string {
	return slices.DeleteFunc(sortedKeys(s.tables), func(name string) bool { return name == "*" })
}

// DidYouMean suggests the most similar of some names, as the compiler's messages do;
// empty if none is similar.
func DidYouMean(name string, names []string) string { return didYouMean(name, names) }
