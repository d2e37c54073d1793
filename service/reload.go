package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"postern/policies"
	"postern/service/apply"
)

const (
	settleTime  = 200 * time.Millisecond // how long the policies' folder must not change before it is read: an editor writes in several steps
	followEvery = time.Second            // how often to check that the watched folder is still the one at its path
	retryAfter  = 5 * time.Second        // how old the catalogue may be when a request arrives, if the newest policies do not fit it
)

// watchPolicies reloads the policies when their folder changes and on SIGHUP, until ctx
// ends. If the operating system has dropped changes, because too many came at once, that
// counts as a change.
func (s *Service) watchPolicies(ctx context.Context, newWatcher func() (*fsnotify.Watcher, error)) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	var (
		watched = &folder{path: filepath.Clean(s.policies.Dir())}
		changes <-chan fsnotify.Event
		missed  <-chan error
		follow  <-chan time.Time
	)
	if s.policies.Dir() != "" {
		watcher, err := newWatcher()
		if err == nil {
			defer watcher.Close()
			watched.watcher, changes, missed = watcher, watcher.Events, watcher.Errors
			ticker := time.NewTicker(followEvery)
			defer ticker.Stop()
			follow = ticker.C
			_, err = watched.follow()
		}
		if err != nil {
			s.logger.Warn("cannot watch the policies' folder: after a change, send SIGHUP to reload them", "error", err)
		}
	}
	quiet := time.NewTimer(settleTime) // the first reload: the policies may have changed since they were loaded
	for {
		select {
		case <-changes:
			quiet.Reset(settleTime)
		case err := <-missed:
			s.logger.Warn("changes of the policies' folder may have been missed; it is read again", "error", err)
			quiet.Reset(settleTime)
		case <-follow:
			if moved, _ := watched.follow(); moved {
				quiet.Reset(settleTime)
			}
		case <-quiet.C:
			s.reloadPolicies(ctx)
		case <-hangup:
			s.reloadPolicies(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// folder is the watched folder at a path. The operating system watches a folder, not a
// path. If the folder is replaced by another one, or a symbolic link on the path changes,
// it reports nothing.
type folder struct {
	path    string
	watcher *fsnotify.Watcher
	is      os.FileInfo // the watched folder; nil if none is watched
}

// follow watches the folder that is at the path now, and reports whether it is another
// one than before.
func (f *folder) follow() (moved bool, err error) {
	is, err := os.Stat(f.path)
	if err == nil && f.is != nil && os.SameFile(is, f.is) && slices.Contains(f.watcher.WatchList(), f.path) {
		return false, nil
	}
	before := f.is
	f.is = nil
	_ = f.watcher.Remove(f.path) // fails if the folder was deleted, because it is not watched any more
	if err == nil {
		err = f.watcher.Add(f.path)
	}
	if err != nil {
		return before != nil, err
	}
	f.is = is
	return true, nil
}

func (s *Service) reloadPolicies(ctx context.Context) {
	changed, err := s.policies.Reload(s.catalog.Snapshot(), s.checkLookups)
	if err != nil && s.policies.Refused() && s.catalog.Refresh(ctx) == nil {
		// They may fit the schema after a migration.
		changed, err = s.policies.Retry(s.catalog.Snapshot(), s.checkLookups)
	}
	switch {
	case changed:
		s.logReload()
		s.catalog.RefreshIfOlderThan(0) // then catalogRead checks their grants and lookups
	case err != nil:
		s.reloads.failed(err)
		s.logger.Error("the new policies are not taken: correct them; the policies in force stay", "sha256", s.policies.SHA256(), "error", err)
	}
}

func (s *Service) logReload() {
	s.reloads.succeeded()
	s.logger.Info("policies reloaded", "sha256", s.policies.SHA256())
}

// lookups is the result of preparing the lookups of a set.
type lookups struct {
	set      *policies.Set
	problems error
}

// checkLookups prepares the lookups of a set before it comes into force.
func (s *Service) checkLookups(set *policies.Set) error {
	problems, err := s.prepareLookups(set)
	if err == nil && problems == nil {
		s.lookups.Store(&lookups{set, nil})
	}
	return errors.Join(problems, err)
}

// recheckLookups prepares the lookups of the set in force if that has not succeeded yet. A
// view or a function that they need may exist by now.
func (s *Service) recheckLookups(set *policies.Set) {
	if last := s.lookups.Load(); last != nil && last.set == set && last.problems == nil {
		return
	}
	problems, err := s.prepareLookups(set)
	if err != nil {
		s.logger.Warn("cannot check the policies' lookups; the next attempt follows when the catalogue is read", "error", err)
		return
	}
	if problems != nil {
		s.logger.Error("the policies' lookups do not fit the database: correct them, or create what they need", "error", problems)
	}
	s.lookups.Store(&lookups{set, problems})
}

// prepareLookups has Postgres parse the lookups of a set as each role. problems are errors
// in the lookups; err means that they could not be checked.
func (s *Service) prepareLookups(set *policies.Set) (problems, err error) {
	ctx, cancel := context.WithTimeout(apply.WithPing(context.Background()), 30*time.Second)
	defer cancel()
	for _, role := range s.roles {
		_, found, err := apply.PrepareLookups(ctx, s.db, role, s.catalog.Snapshot().Settings(role), set)
		if err != nil {
			return nil, fmt.Errorf("checking the policies' lookups: %w", err)
		}
		problems = errors.Join(problems, found)
	}
	return problems, nil
}
