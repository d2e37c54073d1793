package console

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"

	"postern/service/policytest"
)

// coverageFile is what `postern policy test --coverage-json` is told to write, in the
// policies' folder.
const coverageFile = "coverage.json"

func (c *Console) coverage() view {
	return view{Name: "coverage", Title: "Coverage", routes: map[string]route{"GET coverage": c.covered}}
}

// covered is the coverage that was written last.
type covered struct {
	Command  string                     `json:"command,omitzero"`  // that writes it; empty if the policies are in no folder, as the demo's
	Report   *policytest.CoverageReport `json:"report,omitzero"`   // nil if there is none
	At       time.Time                  `json:"at,omitzero"`       // when it was written
	Outdated bool                       `json:"outdated,omitzero"` // other policies are in force
}

func (c *Console) covered(context.Context, *http.Request) (any, error) {
	if c.Applier.Policies.Dir() == "" {
		return covered{}, nil
	}
	path := filepath.Join(c.Applier.Policies.Dir(), coverageFile)
	body := covered{Command: "postern policy test " + c.Applier.Policies.Dir() + " --coverage-json " + path}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return body, nil
	}
	content, readErr := os.ReadFile(path)
	err = errors.Join(err, readErr)
	if err == nil {
		err = json.Unmarshal(content, &body.Report)
	}
	if err != nil {
		c.Logger.Warn("cannot read the coverage of the policies", "error", err)
		return nil, &problem{http.StatusServiceUnavailable, path + " cannot be read: write it again. The log says why."}
	}
	body.At, body.Outdated = info.ModTime(), body.Report.SHA256 != c.Applier.Policies.SHA256()
	return body, nil
}
