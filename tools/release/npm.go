package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// npmRelease is a set of npm packages, in the manner of esbuild: one for each platform
// with its binary, and the package postern. That depends on all of them, and npm
// installs the one whose os and cpu are the machine's.
type npmRelease struct {
	version  string
	dir      string // with a folder for each package
	binaries []npmPackage
}

type npmPackage struct {
	Name        string            `json:"name"`
	Version     string            `json:"version"`
	Description string            `json:"description"`
	License     string            `json:"license"`
	OS          []string          `json:"os,omitempty"`
	CPU         []string          `json:"cpu,omitempty"`
	Bin         map[string]string `json:"bin,omitempty"`
	Engines     map[string]string `json:"engines,omitempty"`
	Optional    map[string]string `json:"optionalDependencies,omitempty"`
}

// npm's words are those of Node.js, process.platform and process.arch.
var (
	npmOS  = map[string]string{"linux": "linux", "darwin": "darwin", "windows": "win32"}
	npmCPU = map[string]string{"amd64": "x64", "arm64": "arm64"}
)

// addBinary adds the package of a platform.
func (r *npmRelease) addBinary(p platform, binary, licences string) error {
	pkg := r.binaryPackage(p)
	dir, err := r.write(pkg)
	if err != nil {
		return err
	}
	if err := os.Rename(licences, filepath.Join(dir, filepath.Base(licences))); err != nil {
		return err
	}
	r.binaries = append(r.binaries, pkg)
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		return err
	}
	return os.Rename(binary, filepath.Join(dir, "bin", p.binary()))
}

func (r *npmRelease) binaryPackage(p platform) npmPackage {
	system, cpu := npmOS[p.os], npmCPU[p.arch]
	return npmPackage{
		Name: "@postern/" + system + "-" + cpu, Version: r.version, License: "Apache-2.0",
		Description: fmt.Sprintf("The binary of Postern for %s on %s: install the package postern", system, cpu),
		OS:          []string{system}, CPU: []string{cpu},
	}
}

// pack adds the package postern, and writes all packages to a folder, as npm publish takes
// them.
func (r *npmRelease) pack(out string) error {
	launcher := npmPackage{
		Name: "postern", Version: r.version, License: "Apache-2.0",
		Description: "The write endpoint for PowerSync apps on Supabase and Neon",
		Bin:         map[string]string{"postern": "postern.js"},
		Engines:     map[string]string{"node": ">=18"},
		Optional:    map[string]string{},
	}
	for _, p := range platforms {
		launcher.Optional[r.binaryPackage(p).Name] = r.version
	}
	dir, err := r.write(launcher, "postern.js", "README.md")
	if err != nil {
		return err
	}
	args := []string{"pack", "--silent", "--pack-destination", out, dir}
	for _, pkg := range r.binaries {
		args = append(args, r.folder(pkg))
	}
	cmd := exec.Command("npm", args...)
	cmd.Stderr = os.Stderr
	if output, err := cmd.Output(); err != nil {
		return fmt.Errorf("npm pack: %w\n%s", err, output)
	}
	return nil
}

func (r *npmRelease) folder(pkg npmPackage) string {
	return filepath.Join(r.dir, filepath.FromSlash(pkg.Name))
}

// write makes a package's folder with its package.json, the licence and files of tools/npm.
func (r *npmRelease) write(pkg npmPackage, files ...string) (dir string, err error) {
	dir = r.folder(pkg)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	content, err := json.MarshalIndent(pkg, "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), append(content, '\n'), 0o644); err != nil {
		return "", err
	}
	sources := []string{filepath.Join(root, "LICENSE")}
	for _, name := range files {
		sources = append(sources, filepath.Join("npm", name))
	}
	for _, source := range sources {
		content, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(source)), content, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}
