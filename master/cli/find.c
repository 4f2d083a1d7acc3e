#include "master/cli/find.h"

#include <stdio.h>

bool cli_find_endpoint(struct config *config, const char *name, struct config_project **project,
                       struct config_endpoint **endpoint)
{
    struct str slug = str_of(name);
    struct str wanted = str_split(&slug, '/');
    *project = NULL;
    *endpoint = NULL;
    for (size_t i = 0; i < config->projects_count; i++)
        if (str_eq(wanted, str_of(config->projects[i].name)))
            *project = &config->projects[i];
    for (size_t i = 0; *project && i < (*project)->endpoints_count; i++)
        if (str_eq(slug, str_of((*project)->endpoints[i].slug)))
            *endpoint = &(*project)->endpoints[i];
    if (!*project)
        fprintf(stderr, "promptgate: there is no project %.*s\n", STR_ARG(wanted));
    else if (!*endpoint)
        fprintf(stderr, "promptgate: project %s has no endpoint %.*s\n", (*project)->name,
                STR_ARG(slug));
    return *endpoint;
}
