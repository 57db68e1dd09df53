/* A module with a directive of mod_gnutls, which Debian does not package any more. It does nothing: the test checks
 * the finding for a server whose certificates mod_ssl does not have. */
#include "httpd.h"
#include "http_config.h"

static const char *enable(cmd_parms *command, void *conf, int on) {
    return NULL;
}

static const command_rec directives[] = {
    AP_INIT_FLAG("GnuTLSEnable", enable, NULL, RSRC_CONF, "TLS by another module"),
    {NULL},
};

module AP_MODULE_DECLARE_DATA gnutls_module = {STANDARD20_MODULE_STUFF, .cmds = directives};
