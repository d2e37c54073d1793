package neon

import (
	_ "embed"

	"postern/service/local"
)

//go:embed project.sql
var projectSQL string

// Project is a new project of Neon, for development and tests.
var Project = local.Project{Name: "neon", SQL: projectSQL, Roles: Roles}
