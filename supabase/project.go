package supabase

import (
	_ "embed"

	"postern/service/local"
)

//go:embed project.sql
var projectSQL string

// Project is a new project of Supabase, for development and tests.
var Project = local.Project{Name: "supabase", SQL: projectSQL, Roles: Roles}
