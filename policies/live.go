package policies

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"postern/service/catalog"
)

// Live is the policies in force. Reload reads them again, and a change of the tables
// compiles them again. If either fails, the set in force stays. Live is safe for
// concurrent use.
type Live struct {
	dir  string
	read func() (*Source, error)
	code []CodeRule

	reloading sync.Mutex              // held by Reload and Retry, which may take a while
	refused   atomic.Pointer[refusal] // nil if what was read last is in force

	mu     sync.Mutex // guards what follows
	source *Source
	bound  atomic.Pointer[binding]
}

// refusal says why the policies that were read last are not in force. source is nil
// if they could not be read.
type refusal struct {
	source *Source
	err    error
}

// binding is a set and the tables it was compiled for.
type binding struct {
	set    *Set
	schema string
	err    error // of the last attempt; set is then the one before, or nil
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

// LoadFS is Load on a file system. Messages name the files with dir in front.
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

// WithCode adds rules in Go. It must be called before the first use.
func (l *Live) WithCode(rules ...CodeRule) *Live {
	l.code = append(slices.Clone(l.code), rules...)
	l.source.code = l.code
	return l
}

// Dir is the folder that the policies are read from; empty after LoadFS.
func (l *Live) Dir() string { return l.dir }

// For returns the set in force for a snapshot of the tables, and compiles it if the
// tables have changed. If that fails, it returns the set before. The error lists
// the mistakes if there was none before.
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

// usable returns the set in force, even if it is not the newest.
func (b *binding) usable() (*Set, error) {
	if b.set == nil {
		return nil, b.err
	}
	return b.set, nil
}

func (l *Live) compile(source *Source, snapshot *catalog.Snapshot) *binding {
	set, err := source.Compile(snapshot)
	b := &binding{set: set, schema: snapshot.Schema, err: err}
	if before := l.bound.Load(); err != nil && before != nil {
		b.set = before.set
	}
	return b
}

// Problem returns why the newest policies are not in force; nil if they are.
func (l *Live) Problem() error {
	if r := l.refused.Load(); r != nil {
		return r.err
	}
	return l.Misfit()
}

// Misfit returns why the policies do not fit the tables, such as a table that was dropped;
// nil if they do. The set that fitted the tables before stays in force.
func (l *Live) Misfit() error {
	if b := l.bound.Load(); b != nil {
		return b.err
	}
	return nil
}

// Reload reads the policies again. It puts them in force if they compile and check
// returns nil; otherwise the set in force stays, and the error lists the mistakes. If
// no set is in force yet, the new policies replace the invalid ones in any case.
// changed is false if the files are the same or were refused.
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

// Retry tries again to put in force what Reload refused, because policies may arrive
// before the migration that they need.
func (l *Live) Retry(snapshot *catalog.Snapshot, check func(*Set) error) (changed bool, err error) {
	l.reloading.Lock()
	defer l.reloading.Unlock()
	if r := l.refused.Load(); r != nil && r.source != nil {
		return l.take(r.source, snapshot, check)
	}
	return false, nil
}

// Refused reports whether there are refused policies that Retry can try again.
func (l *Live) Refused() bool {
	r := l.refused.Load()
	return r != nil && r.source != nil
}

func (l *Live) take(source *Source, snapshot *catalog.Snapshot, check func(*Set) error) (changed bool, err error) {
	var next *binding
	if snapshot != nil {
		next = &binding{schema: snapshot.Schema}
		if next.set, next.err = source.Compile(snapshot); next.err == nil {
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

// SHA256 is that of the policy files in force.
func (l *Live) SHA256() string {
	if b := l.bound.Load(); b != nil && b.set != nil {
		return b.set.SHA256
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.source.SHA256
}
