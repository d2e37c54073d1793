package policies

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"postern/service/catalog"
)

// Live is the policies in force. They are read again when told so, and compiled
// again when the tables change; where that fails, those in force stay. It is safe
// for concurrent use.
type Live struct {
	dir  string
	read func() (*Source, error)
	code []CodeRule
	bare bool

	reloading sync.Mutex // held by Reload and Retry, which may take a while
	refused   atomic.Pointer[refusal]

	mu     sync.Mutex // for what follows
	source *Source
	bound  atomic.Pointer[binding]
}

// refusal is why what was read last is not in force. The source is nil where it
// could not be read.
type refusal struct {
	source *Source
	err    error
}

// binding is a set and the tables it was compiled for.
type binding struct {
	set    *Set
	schema string
	err    error // of the last try; set is then the one before, or nil
}

// Load reads the policies of a folder for the first time.
func Load(dir string) (*Live, error) {
	live, err := load(func() (*Source, error) { return Read(dir) })
	if err != nil {
		return nil, err
	}
	live.dir = dir
	return live, nil
}

// LoadFS is Load on a file system; dir stands before the file names in messages.
func LoadFS(files fs.FS, dir string) (*Live, error) {
	return load(func() (*Source, error) { return ReadFS(files, dir) })
}

func load(read func() (*Source, error)) (*Live, error) {
	live := &Live{read: read}
	var err error
	live.source, err = live.readAll()
	return live, err
}

// readAll reads the files and adds the rules in Go.
func (l *Live) readAll() (*Source, error) {
	source, err := l.read()
	if err != nil {
		return nil, err
	}
	source.code = l.code
	return source, nil
}

// WithCode adds rules in Go to those of the build. It comes before the first use.
func (l *Live) WithCode(rules ...CodeRule) *Live {
	l.code = append(slices.Clone(l.code), rules...)
	l.source.code = l.code
	return l
}

// Dir is the folder the policies are read from; empty where it is none.
func (l *Live) Dir() string { return l.dir }

// WithoutRules leaves of the policies what Set.WithoutRules does. It comes before
// the first use.
func (l *Live) WithoutRules() { l.bare = true }

// For is the set to use with a snapshot of the tables, compiled where it has to
// be. The error lists what does not fit the tables.
func (l *Live) For(snapshot *catalog.Snapshot) (*Set, error) {
	if b := l.bound.Load(); b != nil && b.schema == snapshot.Schema {
		return b.usable()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bound.Load()
	if b == nil || b.schema != snapshot.Schema {
		b = l.compile(l.source, snapshot)
		l.bound.Store(b)
	}
	return b.usable()
}

// usable is the set in force, even where it is not the newest.
func (b *binding) usable() (*Set, error) {
	if b.set == nil {
		return nil, b.err
	}
	return b.set, nil
}

func (l *Live) compile(source *Source, snapshot *catalog.Snapshot) *binding {
	set, err := l.fit(source, snapshot)
	b := &binding{set: set, schema: snapshot.Schema, err: err}
	if before := l.bound.Load(); err != nil && before != nil {
		b.set = before.set
	}
	return b
}

// fit compiles a source as this Live uses it; nil where it does not fit.
func (l *Live) fit(source *Source, snapshot *catalog.Snapshot) (*Set, error) {
	set, err := source.Compile(snapshot)
	switch {
	case err != nil:
		return nil, err
	case l.bare:
		return set.WithoutRules(), nil
	}
	return set, nil
}

// Problem is what is wrong with the policies or the tables now; nil when nothing.
func (l *Live) Problem() error {
	if r := l.refused.Load(); r != nil {
		return r.err
	}
	if b := l.bound.Load(); b != nil {
		return b.err
	}
	return nil
}

// Reload reads the policies again and puts them in force, if they are good; else
// those in force stay, and the error says why. Good is what fits the tables, and
// what check finds nothing wrong with. Where none are in force yet there is nothing
// to keep, and the new ones are taken as they are. changed is false where the files
// are the same, or nothing was taken.
func (l *Live) Reload(snapshot *catalog.Snapshot, check func(*Set) error) (changed bool, err error) {
	l.reloading.Lock()
	defer l.reloading.Unlock()
	source, err := l.readAll()
	if err != nil {
		l.refused.Store(&refusal{nil, err})
		return false, err
	}
	l.mu.Lock()
	same := source.SHA256 == l.source.SHA256
	l.mu.Unlock()
	if same {
		l.refused.Store(nil)
		return false, nil
	}
	return l.take(source, snapshot, check)
}

// Retry tries what Reload did not take once more: policies may come before the
// migration that they are for.
func (l *Live) Retry(snapshot *catalog.Snapshot, check func(*Set) error) (changed bool, err error) {
	l.reloading.Lock()
	defer l.reloading.Unlock()
	if r := l.refused.Load(); r != nil && r.source != nil {
		return l.take(r.source, snapshot, check)
	}
	return false, nil
}

// Refused reports whether there is something to Retry.
func (l *Live) Refused() bool {
	r := l.refused.Load()
	return r != nil && r.source != nil
}

func (l *Live) take(source *Source, snapshot *catalog.Snapshot, check func(*Set) error) (changed bool, err error) {
	var next *binding
	if snapshot != nil {
		next = &binding{schema: snapshot.Schema}
		if next.set, next.err = l.fit(source, snapshot); next.err == nil {
			err = check(next.set)
		}
		err = errors.Join(next.err, err)
		if before := l.bound.Load(); err != nil && before != nil && before.set != nil {
			l.refused.Store(&refusal{source, err})
			return false, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.source = source; next != nil {
		l.bound.Store(next)
	}
	l.refused.Store(nil)
	return true, err
}

// SHA256 is that of the files in force.
func (l *Live) SHA256() string {
	if b := l.bound.Load(); b != nil && b.set != nil {
		return b.set.SHA256
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.source.SHA256
}
