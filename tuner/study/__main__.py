"""``python -m tuner.study search_spaces/base.yaml``: the search, without the other commands.
Only the start: worker processes import this file again, so it loads nothing by itself.
"""

if __name__ == "__main__":
    from tuner.study.command import main

    main()
