if __name__ == "__main__":  # contestants' processes import this module too, and must stay small
    import sys

    from benchmarks.run import main

    sys.exit(main())
