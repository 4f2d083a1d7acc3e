#include "master/cli/table.h"

#include <stdlib.h>

void cli_append_usd(struct buf *out, int64_t nano_usd)
{
    if (nano_usd < 0)
        buf_putc(out, '-');
    lldiv_t parts = lldiv(nano_usd, 1000000000);
    buf_printf(out, "%lld.%09lld", llabs(parts.quot), llabs(parts.rem));
}

void cli_clean_line(struct buf *line)
{
    for (size_t i = 0; i < line->len; i++)
        if ((unsigned char)line->data[i] < 0x20 || line->data[i] == 0x7F)
            line->data[i] = ' ';
    while (line->len > 0 && line->data[line->len - 1] == ' ')
        line->len--;
}
