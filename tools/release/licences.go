package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// allowed are the licences that a module may have, by their SPDX names: those that let a
// binary be passed on under Apache-2.0 with their texts beside it. MPL-2.0 asks that the
// source of its own files is available, and the module proxy has it.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "Public domain"}

// unlicensed are modules without a licence, each with the reason that it is there.
var unlicensed = map[string]string{
	"github.com/supabase-community/storage-go": "supabase-go imports it, and Postern needs no function of it. Its README says that its licence is not chosen yet.",
}

// phrases tell licences apart, the first that fits; spaces and line ends are equal.
var phrases = []struct{ text, id string }{
	{"Mozilla Public License Version 2.0", "MPL-2.0"},
	{"GNU ", "GNU"},
	{"Apache License Version 2.0", "Apache-2.0"},
	{"Permission is hereby granted, free of charge", "MIT"},
	{"Permission to use, copy, modify, and/or distribute this software for any purpose", "ISC"},
	{"may be used to endorse or promote products derived from this software", "BSD-3-Clause"},
	{"Redistribution and use in source and binary forms", "BSD-2-Clause"},
	{"public domain", "Public domain"},
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)(\.(md|txt))?$`)

// moduleLicence is the licence of a module in a binary.
type moduleLicence struct {
	module, version string
	id              string // SPDX; empty if it has none
	texts           []string
}

// readLicences finds the licence of each module in a binary, and of Go's standard
// library. One that is not allowed is an error.
func readLicences(binary string) ([]moduleLicence, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	names, versions := []string{"std"}, []string{strings.TrimPrefix(info.GoVersion, "go")}
	list := []string{"list", "-m", "-f", "{{.Dir}}"}
	for _, module := range info.Deps {
		module = linked(module)
		names, versions, list = append(names, module.Path), append(versions, module.Version), append(list, module.Path)
	}
	goroot, err := goCommand("env", "GOROOT")
	if err != nil {
		return nil, err
	}
	dirs, err := goCommand(list...)
	if err != nil {
		return nil, err
	}
	var found []moduleLicence
	for i, dir := range append(goroot, dirs...) {
		licence, err := readLicence(names[i], versions[i], dir)
		if err != nil {
			return nil, err
		}
		found = append(found, licence)
	}
	return found, nil
}

// linked is the module whose code is in the binary.
func linked(module *debug.Module) *debug.Module {
	if module.Replace != nil {
		return module.Replace
	}
	return module
}

// goCommand returns the lines that a go command prints.
func goCommand(arguments ...string) ([]string, error) {
	cmd := exec.Command("go", arguments...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	text, err := cmd.Output()
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err
}

// readLicence reads the texts in a module's folder.
func readLicence(module, version, dir string) (moduleLicence, error) {
	licence := moduleLicence{module: module, version: version}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return licence, err
	}
	for _, entry := range entries {
		if !licenceFile.MatchString(entry.Name()) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return licence, err
		}
		licence.texts = append(licence.texts, string(content))
		if licence.id == "" {
			licence.id = identify(string(content))
		}
	}
	switch {
	case slices.Contains(allowed, licence.id):
		return licence, nil
	case licence.id == "" && unlicensed[module] != "":
		licence.texts = []string{"No licence. " + unlicensed[module] + "\n"}
		return licence, nil
	}
	return licence, fmt.Errorf("the licence of %s %s is %q, which is none of %v: use another module, or add the licence to tools/release/licences.go", module, version, licence.id, allowed)
}

// identify returns the SPDX name of a licence, or "" if it is unknown.
func identify(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, phrase := range phrases {
		if strings.Contains(text, phrase.text) {
			return phrase.id
		}
	}
	return ""
}

// licenceTexts is the content of THIRD_PARTY_LICENSES, which belongs to each binary.
func licenceTexts(licences []moduleLicence) []byte {
	var text bytes.Buffer
	text.WriteString("The licences of the modules that are in this binary. Their source is public, under their modules' names.\n")
	for _, licence := range licences {
		fmt.Fprintf(&text, "\n======== %s %s ========\n\n%s", licence.module, licence.version, strings.Join(licence.texts, "\n"))
	}
	return text.Bytes()
}
