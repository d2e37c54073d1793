package policies

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// File is a policy file.
type File struct {
	Path string `json:"path"` // with the folder, as messages name it
	Text string `json:"text"`
}

// Files are the files that were read last and taken, in the order of their names.
func (l *Live) Files() []File {
	source := l.taken()
	files := make([]File, len(source.files))
	for i, f := range source.files {
		files[i] = File{f.path, strings.Join(f.lines, "\n")}
	}
	return files
}

// Edited returns policies in which some files have another text, to try them out. They
// are not in force, and nothing is written. The error lists the mistakes of their form.
func (l *Live) Edited(files ...File) (*Live, error) {
	taken := l.taken()
	source := &Source{files: slices.Clone(taken.files), code: taken.code}
	var problems []error
	for _, edited := range files {
		i := slices.IndexFunc(source.files, func(f sourceFile) bool { return f.path == edited.Path })
		if i < 0 {
			return nil, fmt.Errorf("policies: there is no file %s: edit one of those that were read", edited.Path)
		}
		f, found := readFile(edited.Path, []byte(edited.Text))
		source.files[i], problems = f, append(problems, found...)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return &Live{read: func() (*Source, error) { return source, nil }, code: l.code, source: source}, nil
}

func (l *Live) taken() *Source {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.source
}
